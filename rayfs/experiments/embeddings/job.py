"""The embedding job: features from the cache, classifiers over blocks of episodes in this process, tables.

Ray computes features that the cache lacks, and is not started otherwise.
"""

import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from rayfs.datasets.episodes import Episode
from rayfs.datasets.image_table import cache_folder
from rayfs.distributed.session import ray_session, refuse_lost_outputs
from rayfs.distributed.table_features import ensure_table_features, features_path
from rayfs.engine.bank import BaseBank, open_bank
from rayfs.engine.process import configure_process
from rayfs.errors import InputError
from rayfs.experiments.embeddings.experiment import EmbeddingEval, prepare_evaluations
from rayfs.experiments.embeddings.flags import EmbeddingEvalConfig
from rayfs.experiments.episodes.experiment import session_information
from rayfs.experiments.episodes.run import keep_episodes
from rayfs.flags.command_line import EXIT_FAILED, EXIT_OK
from rayfs.interrupts import sigterm_as_interrupt
from rayfs.redaction import without_secrets
from rayfs.reports.episodes.build import write_report
from rayfs.reports.progress import Progress
from rayfs.reports.summary_table import summary_table
from rayfs.reports.table_exports import text_table
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import RunDirectory
from rayfs.runs.storage import location_below
from rayfs.statistics.episodes_summary import EpisodesSummary
from rayfs.statistics.summary import summarise
from rayfs.workers.embedding_episodes import BlockSolver, missing_blocks

CHECK_ROWS = 4096


def run_evaluate_embedding(config: EmbeddingEvalConfig, command: list[str]) -> int:
    """Do what the flags ask, print a table for each number of shots, and return the exit code.

    Raises:
        InputError: wrong input, mostly before any work.
    """
    refuse_lost_outputs({"--out": config.out})
    cache_dir = cache_folder()
    evaluations = prepare_evaluations(config, cache_dir)
    if config.out is not None:
        for evaluation in evaluations:
            run = RunDirectory(run_location(config.out, evaluation.protocol.n_shot))
            run.refuse_other(evaluation.identity(), evaluation.method_identities())
    print(describe(evaluations[0]), flush=True)
    configure_process(config.compute.threads)
    rows: list[Row] = []
    try:
        with sigterm_as_interrupt():
            plain, support = feature_banks(evaluations[0], cache_dir)
            for evaluation in evaluations:
                rows += run_evaluation(evaluation, plain, support, config.out, command)
    except KeyboardInterrupt:
        if config.out is not None:
            again = without_secrets(shlex.join(command))
            print(f"\nstopped; {config.out} keeps what is finished. Resume with:\n  {again}", flush=True)
        raise
    failed = [row for row in rows if row.status == "failed"]
    for row in failed[:3]:
        print(f"\nepisode {row.episode}, {row.method}: failed\n{row.error.strip()}")
    if failed:
        print(f"\n{len(failed)} rows failed; they count in no figure")
    return EXIT_FAILED if failed else EXIT_OK


def run_location(out: str, n_shot: int) -> str:
    """Return the run directory below `out` of one number of shots."""
    return location_below(out, f"{n_shot}-shot")


def describe(evaluation: EmbeddingEval) -> str:
    """Return what is about to run, in three lines."""
    benchmark, novel = evaluation.benchmark, evaluation.novel
    settings = next(iter(evaluation.methods.values()))
    penalties = "".join(f", {name} c {config.c:g}" for name, config in evaluation.methods.items() if config.c)
    views = f"{settings.support_views} views (seed {settings.view_seed})" if settings.support_views else "no views"
    return (
        f"{benchmark.name}: {len(novel):,} images of {len(novel.class_names)} {evaluation.protocol.split} classes, "
        f"{benchmark.image_size} px\n{evaluation.backbone_report}\n"
        f"support images: {views}; features {'of unit length' if settings.normalize else 'as they are'}{penalties}; "
        f"on {evaluation.device.type}"
    )


def feature_banks(evaluation: EmbeddingEval, cache_dir: Path) -> tuple[BaseBank, BaseBank]:
    """Return the features of the images (for queries) and those for support, both from the cache or made now by Ray.

    Raises:
        InputError: Ray has no GPU for them, or some features are not finite.
    """
    gpu = evaluation.device.type == "cuda"
    table, spec = evaluation.novel, evaluation.backbone
    wanted = [None] if evaluation.views is None else [None, evaluation.views]
    banks = []
    for views in wanted:
        path = features_path(cache_dir, table, spec, gpu, views)
        if path.exists():
            bank = open_bank(cache_dir, table.fingerprint, path)
        else:
            with ray_session() as session:
                resources = session.resources
                if gpu and resources.gpus < 1:
                    raise InputError("--device cuda: the Ray cluster has 0 GPUs; add one to it or use --device cpu")
                bank = ensure_table_features(table, spec, cache_dir, resources, gpu, views)
        refuse_not_finite(bank)
        banks.append(bank)
    return banks[0], banks[-1]


def refuse_not_finite(bank: BaseBank) -> None:
    """Refuse features that no classifier can use.

    Raises:
        InputError: some are NaN or infinite.
    """
    n_bad = 0
    for start in range(0, len(bank.features), CHECK_ROWS):
        part = bank.features[start : start + CHECK_ROWS]
        n_bad += int((~np.isfinite(part).all(axis=tuple(range(1, part.ndim)))).sum())
    if n_bad:
        raise InputError(
            f"the backbone gives {n_bad} of {len(bank.features)} images features that are not finite; the checkpoint "
            "is damaged, diverged, or of another backbone"
        )


def run_evaluation(
    evaluation: EmbeddingEval, plain: BaseBank, support: BaseBank, out: str | None, command: list[str]
) -> list[Row]:
    """Solve the episodes of one number of shots that `out` does not have yet, print the table, and return all rows."""
    started = time.monotonic()
    protocol, episodes = evaluation.protocol, evaluation.episodes()
    solver = BlockSolver(plain, support, evaluation.methods, evaluation.device)
    solver.seconds["episodes"] = time.monotonic() - started
    what = f"{protocol.n_way}-way {protocol.n_shot}-shot, {protocol.n_query} queries a class"
    print(f"\n{len(episodes):,} episodes, {what}", flush=True)
    if out is None:
        rows = solve_missing(evaluation, solver, episodes, None)
        report(evaluation, rows, solver, time.monotonic() - started)
        return rows
    location = run_location(out, protocol.n_shot)
    information = session_information(command)
    with RunDirectory(location).open(evaluation.identity(), information, evaluation.method_identities()) as run:
        keep_episodes(run, episodes, protocol, evaluation.novel)
        solve_missing(evaluation, solver, episodes, run)
        rows = [row for row in run.rows() if row.episode < len(episodes) and row.method in evaluation.methods]
        run.write_summary(report(evaluation, rows, solver, time.monotonic() - started).to_json())
        write_report(run, cache_folder())
        print(f"rows, summary.json, report.html: {run.location}")
    return rows


def solve_missing(
    evaluation: EmbeddingEval, solver: BlockSolver, episodes: list[Episode], run: RunDirectory | None
) -> list[Row]:
    """Solve what `run` lacks, each block committed as one part, and return the new rows without their predictions."""
    completed = run.completed() if run else set()
    blocks = list(missing_blocks(episodes, list(evaluation.methods), completed, solver.block_size(episodes[0])))
    if not blocks:
        return []
    n_missing = sum(len(block.episodes) for block in blocks)
    shown = evaluation.baseline or next(iter(evaluation.methods))
    progress = Progress(len(episodes), len(episodes) - n_missing, shown, sys.stdout)
    missing = {episode.index for block in blocks for episode in block.episodes}
    progress.resume(row for row in (run.rows() if run else []) if row.episode not in missing)
    new = []
    try:
        for block in blocks:
            rows = solver.solve(block)
            if run is not None:
                run.append(rows)
            progress.update_all(rows[i :: len(block.episodes)] for i in range(len(block.episodes)))
            new += [replace(row, predictions=[], labels=[]) for row in rows]
    finally:
        progress.finish()
    return new


def report(evaluation: EmbeddingEval, rows: list[Row], solver: BlockSolver, wall_s: float) -> EpisodesSummary:
    """Print the table and where the time went; return the summary."""
    figures = summarise(rows, evaluation.baseline, list(evaluation.methods))
    print("\n" + text_table(summary_table(figures, baseline_label="the baseline")), end="")
    if len(solver.seconds) > 1:  # something was solved
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in solver.seconds.items())
        print(f"Seconds: {parts}; {wall_s:.1f} in all.")
    return EpisodesSummary(
        benchmark=evaluation.benchmark.name, protocol=evaluation.protocol, n_episodes=evaluation.n_episodes,
        backbone=evaluation.identity().backbone, figures=figures,
    )  # fmt: skip
