"""The main job: from flags to an experiment, to rows, to the table people read."""

import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from rayfs.datasets.class_groups import restrict
from rayfs.datasets.episodes import Protocol
from rayfs.datasets.image_table import cache_folder, load_table
from rayfs.datasets.registry import open_benchmark, refuse_shared_classes
from rayfs.distributed.session import refuse_lost_outputs
from rayfs.errors import InputError
from rayfs.experiments.episodes.estimate import describe_estimate
from rayfs.experiments.episodes.experiment import Experiment, prepare_experiment, session_information
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.episodes.run import Execution, evaluate, wanted_rows
from rayfs.flags.command_line import EXIT_FAILED, EXIT_OK
from rayfs.flags.groups import WorkerFlags
from rayfs.methods.definition import MethodSettings
from rayfs.methods.recipe import default_protocol
from rayfs.methods.variants import method_settings
from rayfs.reports.episodes.build import write_report
from rayfs.reports.joint_cells import joint_cells
from rayfs.reports.summary_table import error_table, summary_table
from rayfs.reports.table_exports import text_table
from rayfs.runs.episode_log import EpisodeLog
from rayfs.runs.run_directory import RunDirectory
from rayfs.statistics.episodes_summary import EpisodesSummary


def run_label_halluc_eval(config: EvalConfig, command: list[str]) -> int:
    """Do what the flags ask, print what people look at, and return the exit code.

    Raises:
        InputError: wrong input, mostly before any work.
    """
    started = time.monotonic()
    refuse_lost_outputs({"--out": config.out, "--manifest": config.manifest, "--episode-log": config.episode_log})
    cache_dir = cache_folder()
    experiment = build_experiment(config, cache_dir)
    print(describe(experiment))
    if config.plan:
        print(describe_estimate(experiment, config, cache_dir))
        return EXIT_OK
    if config.check:
        if config.out is not None:
            check_run(experiment, config.out)
        size, channels = experiment.benchmark.image_size, experiment.benchmark.channels
        load_table(experiment.base, cache_dir, channels=channels, image_size=size)  # every base image can be decoded
        print("check passed: flags, every image, checkpoint" + (" and run directory" if config.out else ""))
        return EXIT_OK
    assert config.out is not None  # EvalConfig requires it here
    execution = execution_of(config.workers)
    with EpisodeLog(config.episode_log) as log, open_run(experiment, config.out, command) as run:
        summary = evaluate(experiment, run, execution, cache_dir=cache_dir, command=command, log=log)
        print(describe_results(experiment, summary))
        write_report(run, cache_dir)
        print(f"rows, summary.json, report.html: {run.location} ({time.monotonic() - started:.0f} s)")
        failed = [row for row in wanted_rows(experiment, run) if row.status == "failed"]
    for row in failed[:3]:
        print(f"\nepisode {row.episode}, {row.method}: failed {row.attempt} times\n{row.error.strip()}")
    if failed:
        print(f"\n{len(failed)} rows failed; they count in no figure. Rerun the command to try them again")
    return EXIT_FAILED if failed else EXIT_OK


def build_experiment(config: EvalConfig, cache_dir: Path) -> Experiment:
    """Fill in the benchmark's defaults and check everything that can be checked without Ray."""
    data, asked = config.data, config.protocol
    benchmark = open_benchmark(data.benchmark, data.folder, data.image_size)
    refuse_shared_classes(benchmark)
    if config.base_classes and config.backbone.checkpoint is None:
        named = " ".join(config.base_classes)
        raise InputError(
            f"--base-classes {named} needs --checkpoint: the embeddings in the package have seen all base classes; "
            f"train one with jobs/pretrain.py --base-classes {named}, or name one of the package to use it all the same"
        )
    benchmark = restrict(benchmark, config.base_classes, config.novel_classes, asked.split)
    given = {"n_way": asked.n_way, "n_shot": asked.n_shot, "n_query": asked.n_query, "episodes": config.episodes}
    chosen = {**default_protocol(data.benchmark), **{name: n for name, n in given.items() if n is not None}}
    n_episodes = chosen.pop("episodes")
    protocol = Protocol(**chosen, split=asked.split, seed=asked.seed)
    return prepare_experiment(
        benchmark=benchmark, protocol=protocol, n_episodes=n_episodes, manifest=config.manifest,
        methods=method_settings(
            config.methods, data.benchmark, protocol.n_way, protocol.n_shot, config.settings, config.recipe
        ),
        backbone=config.backbone.name, checkpoint=config.backbone.checkpoint,
        cache_dir=cache_dir,
    )  # fmt: skip


def execution_of(workers: WorkerFlags) -> Execution:
    """Return how the flags ask for episodes to be run."""
    return Execution(
        workers=workers.n_workers, cpus_per_worker=workers.cpus_per_worker, gpus_per_worker=workers.gpus_per_worker,
        episode_timeout=workers.episode_timeout, wait_for_nodes=workers.wait_for_nodes,
    )  # fmt: skip


def open_run(experiment: Experiment, out: str, command: list[str]) -> RunDirectory:
    """Create or resume the run directory."""
    return RunDirectory(out).open(experiment.identity(), session_information(command), method_identities(experiment))


def check_run(experiment: Experiment, out: str) -> None:
    """Refuse a run directory that holds a run with other settings; writes nothing."""
    RunDirectory(out).refuse_other(experiment.identity(), method_identities(experiment))


def method_identities(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Return every method's configuration as plain values."""
    return {
        name: {field.name: getattr(method, field.name) for field in fields(method)}
        for name, method in experiment.methods.items()
    }


def describe(experiment: Experiment) -> str:
    """Return what is about to run, in three lines."""
    benchmark, protocol = experiment.benchmark, experiment.protocol
    return (
        f"{benchmark.name}: {len(experiment.episodes)} episodes, {protocol.n_way}-way {protocol.n_shot}-shot, "
        f"{protocol.n_query} queries a class, from {len(experiment.novel.class_names)} {protocol.split} classes; "
        f"{experiment.n_base:,} base images of {len(experiment.base.class_names)} classes, {benchmark.image_size} px\n"
        f"{experiment.backbone.name} ({experiment.n_parameters:,} parameters): {experiment.checkpoint_report}\n"
        + describe_methods(experiment.methods)
    )


def describe_results(experiment: Experiment, summary: EpisodesSummary) -> str:
    """Return the final table, and error rates beside published ones where the benchmark has them."""
    table = "\n" + text_table(summary_table(summary.figures, baseline_label="the baseline"))
    if summary.joint:
        cells = joint_cells(summary.joint, experiment.baseline, len(experiment.base.class_names))
        table += "\n" + text_table(cells)
    published = experiment.benchmark.published_errors
    if published and experiment.protocol.split == "test":
        n_trials = len(experiment.episodes) * experiment.protocol.n_way * experiment.protocol.n_query
        table += f"\nerror over {n_trials} trials, beside published figures (minimal background set)\n"
        table += text_table(error_table(summary.figures, published))
    return table


def describe_methods(methods: Mapping[str, MethodSettings]) -> str:
    """Return a line for each method: its settings, of which later methods repeat only those that differ."""
    said: dict[str, Any] = {}
    lines = []
    for name, config in methods.items():
        settings = {field.name: getattr(config, field.name) for field in fields(config)}
        new = {field: value for field, value in settings.items() if field not in said or said[field] != value}
        text = ", ".join(f"{field} {value}" for field, value in new.items()) or "the same settings"
        lines.append(
            f"{name}: {text}" if not said else f"{name}: {text}{' (else as above)' if len(new) < len(settings) else ''}"
        )
        said = {**settings, **said}
    return "\n".join(lines)
