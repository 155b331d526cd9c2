"""Tune thresholds, τ and terms of compositional knowledge transfer on validation images, with Ray Tune.

A trial is a block of settings that share a τ, not a single one: Ray Tune needs a fifth of a second for a trial, in
which a hundred settings are scored.
"""

import json
import shlex
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from rayfs.datasets.image_table import cache_folder
from rayfs.distributed.search_blocks import BlockTask, run_blocks
from rayfs.distributed.session import Resources, ray_session
from rayfs.errors import InputError
from rayfs.experiments.episodes.experiment import session_information
from rayfs.experiments.long_tail.features import LongTailModel, features_of, open_images, open_model
from rayfs.experiments.long_tail.flags import LongTailEvalConfig
from rayfs.experiments.long_tail.job import centres_of, evaluate, opened, report
from rayfs.experiments.tuning.flags import TuneConfig
from rayfs.experiments.tuning.long_tail_flags import transfer_space
from rayfs.flags.command_line import EXIT_OK
from rayfs.flags.groups import BackboneFlags, DeviceFlags
from rayfs.flags.parsing import flag_values
from rayfs.interrupts import sigterm_as_interrupt
from rayfs.long_tail.centres import ClassCentres
from rayfs.long_tail.groups import class_groups
from rayfs.long_tail.search import ScoredSetting, best_setting, score_settings
from rayfs.long_tail.search_space import TransferSetting, distinct_thresholds
from rayfs.redaction import without_secrets
from rayfs.reports.long_tail.search_page import TUNE_PAGE, build_search_page
from rayfs.reports.text_table import aligned
from rayfs.runs.block_rows import BLOCKS
from rayfs.runs.identity import CosineNetwork, SettingsSearchIdentity
from rayfs.runs.long_tail_results import TunedEnsemble
from rayfs.runs.run_directory import RunDirectory
from rayfs.runs.search_blocks import BlockStore
from rayfs.runs.storage import location_below

N_PRINTED = 8
"""Settings that are printed."""


def tune_long_tail(config: TuneConfig, command: list[str]) -> int:
    """Score --n-trials settings, print the best and the command that evaluates it, and with --final evaluate it.

    Raises:
        InputError: wrong input, mostly before any work.
    """
    cache_dir = cache_folder()
    chosen = evaluation_config(config, split="validation")
    images = open_images(chosen, cache_dir)
    possible = distinct_thresholds(images.counts_C.tolist())
    chosen = replace(chosen, k=tuple(k for k in chosen.k if k <= possible[-1]))  # small benchmarks have no class above
    model = open_model(chosen, images, chosen.checkpoint[0] if chosen.checkpoint else None, cache_dir)
    if not model.seen_C.all():
        raise InputError(
            f"--checkpoint {model.name} has not seen {int((~model.seen_C).sum())} of {len(model.seen_C)} classes in "
            "training; settings are searched for one that has seen all: use jobs/long_tail_eval.py"
        )
    identity = SettingsSearchIdentity(
        tables={split: table.fingerprint for split, table in images.tables.items()},
        network=CosineNetwork(state_hash=model.spec.state_hash, head_hash=model.head_hash), seed=config.protocol.seed,
    )  # fmt: skip
    space = transfer_space(config.space)
    n_blocks = -(-config.n_trials // space.block)
    with RunDirectory(config.out, BLOCKS).open(identity, session_information(command)) as run, sigterm_as_interrupt():
        store = BlockStore(run, identity.to_json())
        centres = centres_of(chosen, images, model)
        labels_N = torch.from_numpy(images.labels["validation"])
        task = BlockTask(
            features_ND=features_of(images, model, "validation"), labels_N=labels_N, centres=centres,
            groups=class_groups(images.counts_C, chosen.groups), space=space,
            thresholds=possible, seed=config.protocol.seed,
        )  # fmt: skip
        missing = [index for index in range(n_blocks) if not store.has(space, index)]
        started = time.perf_counter()
        if missing:
            with ray_session() as session:
                _search(config, task, missing, session.resources, store, cache_dir, command)
        tuned = _tuned(chosen, task, store.scored(), time.perf_counter() - started)
        paste = paste_command(config, chosen, tuned.best.setting)
        print("\n" + _table(tuned) + f"\nbest, to paste:\n  {paste}\n")
        run.write_file(TUNE_PAGE, build_search_page(chosen.data.benchmark, tuned, paste, command))
        if config.final:
            _final(config, chosen.k, model, centres, tuned, store, command)
    print(f"blocks, search.json, {TUNE_PAGE}: {run.location}")
    return EXIT_OK


def _search(
    config: TuneConfig, task: BlockTask, missing: list[int], resources: Resources, store: BlockStore, cache_dir: Path,
    command: list[str],
) -> None:  # fmt: skip
    """Score the missing blocks, each kept as it ends."""
    at_once = config.trials_at_once or max(1, int(resources.cpus) // config.cpus_per_trial)
    print(f"{len(missing)} blocks of {task.space.block} settings, {at_once} at a time", flush=True)
    n_done = 0

    def keep(index: int, scored: list[ScoredSetting]) -> None:
        nonlocal n_done
        store.add(task.space, index, scored)
        n_done += 1
        best = best_setting(scored, "all")
        print(f"block {n_done}/{len(missing)} | best {best.value('all'):.2f} | {best.setting.describe()}", flush=True)

    parent = cache_dir / "tune"  # all nodes share the cache
    parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
            run_blocks(task, missing, at_once, config.cpus_per_trial, Path(folder).absolute() / "search", keep)
    except KeyboardInterrupt:
        again = without_secrets(shlex.join(command))
        print(f"\nstopped; {store.run.location} keeps every finished block. Resume with:\n  {again}", flush=True)
        raise


def _tuned(
    chosen: LongTailEvalConfig, task: BlockTask, scored: Sequence[ScoredSetting], seconds: float
) -> TunedEnsemble:
    reference = score_settings(task.features_ND, task.labels_N, task.centres, task.groups, [chosen.setting])[0]
    return TunedEnsemble(
        best=best_setting(scored, chosen.objective), scored=scored, reference=reference, objective=chosen.objective,
        n_images=len(task.labels_N), seconds=seconds,
    )  # fmt: skip


def _table(tuned: TunedEnsemble) -> str:
    ranked = sorted(tuned.scored, key=lambda s: -s.value(tuned.objective))[:N_PRINTED]
    named = [*((str(i + 1), scored) for i, scored in enumerate(ranked)), ("paper's", tuned.reference)]
    groups = list(tuned.reference.accuracy)
    lines = [
        [name, s.setting.describe(), *(f"{s.accuracy[group]:.2f}" for group in groups)] for name, s in named
    ]  # fmt: skip
    note = (
        f"{len(tuned.scored):,} settings on {tuned.n_images:,} validation images; the best of so many is better there "
        "than elsewhere."
    )
    return aligned([["", "setting", *groups], *lines]) + f"\n{note}"


def paste_command(config: TuneConfig, chosen: LongTailEvalConfig, setting: TransferSetting) -> str:
    """Return the command that evaluates `setting` on test images."""
    words = ["python", "jobs/long_tail_eval.py", "--benchmark", chosen.data.benchmark]
    words += ["--backbone", chosen.backbone]
    values = flag_values(config)
    for name in ("data", "image_size", "checkpoint"):
        if (value := values[name]) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--k", *map(str, setting.thresholds), "--tau", repr(setting.tau), "--attention", setting.attention]
    words += [] if setting.own_neighbour else ["--no-own-neighbour"]
    words += [] if setting.terms == TransferSetting().terms else ["--continual"]
    return without_secrets(shlex.join([*words, "--out", "runs/tuned"]))


def _final(
    config: TuneConfig, k: tuple[int, ...], model: LongTailModel, centres: ClassCentres, tuned: TunedEnsemble,
    store: BlockStore, command: list[str],
) -> None:  # fmt: skip
    """Score the winner on test images, once, beside the paper's setting (`k`)."""
    setting: dict[str, Any] = json.loads(json.dumps(asdict(tuned.best.setting)))
    if store.final is not None and store.final != setting:
        raise InputError(
            f"test images were used already, by {store.final} in {store.run.location}/final, and the winner is now "
            f"{setting}: a second look would choose on test images. Report the first; a new search needs another --out"
        )
    location = location_below(config.out, "final")
    chosen = evaluation_config(config, split="test", k=k, search=len(tuned.scored), out=location)
    whole = open_images(chosen, cache_folder())
    with opened(chosen, whole, [model], command) as final:
        store.mark_final(setting, session_information(command))
        print("\nfinal: test images, once")
        report(chosen, whole, [model], [evaluate(chosen, whole, model, centres, tuned)], final, command)


def evaluation_config(config: TuneConfig, **changes: Any) -> LongTailEvalConfig:
    """Return what `jobs/long_tail_eval.py` would be told.

    The backbone that --backbone names by default is that of few-shot episodes; without a checkpoint it is the one of
    the long tail that the package has an embedding of.
    """
    backbone = config.backbone
    own = {} if backbone == BackboneFlags() else {"backbone": backbone.name}
    return LongTailEvalConfig(
        data=config.data, checkpoint=(str(backbone.checkpoint),) if backbone.checkpoint else (),
        seed=config.protocol.seed, compute=DeviceFlags(threads=config.cpus_per_trial), **{**own, **changes},
    )  # fmt: skip
