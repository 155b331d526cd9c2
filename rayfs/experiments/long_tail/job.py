"""The long-tail job: features from the cache, classifiers of every checkpoint in this process, tables and a page.

Where a checkpoint was trained without some classes, these are recognised by prototypes and transfer alone (paper,
section 4.3).

Ray computes features that the cache lacks, and is not started otherwise.
"""

import time
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from rayfs.datasets.image_table import cache_folder
from rayfs.distributed.session import refuse_lost_outputs
from rayfs.engine.process import configure_process
from rayfs.errors import InputError
from rayfs.experiments.episodes.experiment import session_information
from rayfs.experiments.long_tail.features import LongTailImages, LongTailModel, features_of, open_images, open_model
from rayfs.experiments.long_tail.flags import LongTailEvalConfig
from rayfs.flags.command_line import EXIT_OK
from rayfs.flags.parsing import flag_values
from rayfs.interrupts import sigterm_as_interrupt
from rayfs.long_tail.centres import ClassCentres, compose
from rayfs.long_tail.ensemble import predict
from rayfs.long_tail.groups import class_groups
from rayfs.long_tail.mismatches import mismatched
from rayfs.long_tail.prototypes import class_prototypes
from rayfs.long_tail.search import best_setting, score_settings
from rayfs.long_tail.search_space import TransferSpace, continual_setting, distinct_thresholds, draw_settings
from rayfs.long_tail.settings import TUNED, Classifier, paper_classifiers, unseen_classifiers
from rayfs.long_tail.transfer import refuse_impossible
from rayfs.reports.long_tail.report import build_page
from rayfs.reports.long_tail.tables import long_tail_files, long_tail_text
from rayfs.runs.class_rows import CLASSES, ClassRow, class_rows, summary_of
from rayfs.runs.identity import CosineNetwork, LongTailIdentity
from rayfs.runs.long_tail_results import CheckpointResult, LongTailResults, TunedEnsemble
from rayfs.runs.run_directory import RunDirectory
from rayfs.statistics.long_tail_summary import summarise_long_tail

REPORT = "report.html"


def run_long_tail_eval(config: LongTailEvalConfig, command: list[str]) -> int:
    """Do what the flags ask, print the table, and return the exit code.

    Raises:
        InputError: wrong input, mostly before any work.
    """
    refuse_lost_outputs({"--out": config.out})
    cache_dir = cache_folder()
    images = open_images(config, cache_dir)
    models = [open_model(config, images, name, cache_dir) for name in config.checkpoint or (None,)]
    refuse_weights_of_unseen(config, images, models)
    if config.out is not None:
        RunDirectory(config.out, CLASSES).refuse_other(identity(config, images, models))
    configure_process(config.compute.threads)
    with opened(config, images, models, command) as run:
        with sigterm_as_interrupt():
            found = []
            for model in models:
                centres = centres_of(config, images, model)
                tuned = search(config, images, model, centres) if config.search else None
                found.append(evaluate(config, images, model, centres, tuned))
        report(config, images, models, found, run, command)
    return EXIT_OK


def opened(
    config: LongTailEvalConfig, images: LongTailImages, models: list[LongTailModel], command: list[str]
) -> AbstractContextManager[RunDirectory[ClassRow] | None]:
    """Return the run directory of --out, locked before any work; of None without one.

    Raises:
        InputError: it cannot be written, holds something else, or another process writes it.
    """
    if config.out is None:
        return nullcontext()
    return RunDirectory(config.out, CLASSES).open(identity(config, images, models), session_information(command))


def refuse_weights_of_unseen(config: LongTailEvalConfig, images: LongTailImages, models: list[LongTailModel]) -> None:
    """Refuse, before any work, flags that checkpoints trained on some of the classes cannot serve.

    Raises:
        InputError: a flag needs the weights of every class, no class seen in training has more than --k images, or the
            checkpoints have not seen the same classes.
    """
    for model in models:
        if not torch.equal(model.seen_C, models[0].seen_C):
            raise InputError(
                f"checkpoints {models[0].name} and {model.name} were trained on {int(models[0].seen_C.sum())} and "
                f"{int(model.seen_C.sum())} classes, not the same ones; their means would say nothing: evaluate each "
                "alone"
            )
    seen_C = models[0].seen_C
    if seen_C.all():
        return
    given = {
        "--search": config.search > 0, "--continual": config.continual,
        f"--attention {config.attention}": config.attention.startswith("w"),
    }  # fmt: skip
    if needing := [flag for flag, is_given in given.items() if is_given]:
        raise InputError(
            f"{', '.join(needing)}: not for checkpoint {models[0].name}, which has not seen {int((~seen_C).sum())} of "
            f"{len(seen_C)} classes in training and has no weights for them; its classifiers are prototypes, w^hc(k) "
            "and their ensemble: drop the flag"
        )
    thresholds = [m.k for members in classifiers_of(config, whole=False).values() for m in members if m.k is not None]
    refuse_impossible(torch.from_numpy(images.counts_C).where(seen_C, 0), thresholds)


def centres_of(config: LongTailEvalConfig, images: LongTailImages, model: LongTailModel) -> ClassCentres:
    """Return the prototypes of the training images under `model`, beside the weights of its head."""
    print(f"{config.backbone}: {model.report}", flush=True)
    base_ND = features_of(images, model, "base", config.prototype_views)
    return ClassCentres(
        class_names=images.class_names, counts_C=torch.from_numpy(images.counts_C), weights_CD=model.weights_CD,
        scale=config.scale or model.scale, seen_C=model.seen_C,
        prototypes_CD=class_prototypes(base_ND, torch.from_numpy(images.labels["base"]), images.class_names),
    )  # fmt: skip


def classifiers_of(config: LongTailEvalConfig, whole: bool) -> dict[str, Classifier]:
    """Return every classifier that is not tuned, by name; `whole`: the checkpoint was trained on every class."""
    if not whole:
        return unseen_classifiers(config.k, config.tau, config.continual_prototypes)
    return paper_classifiers(config.k, config.tau, config.continual_prototypes, config.setting.terms)


def evaluate(
    config: LongTailEvalConfig, images: LongTailImages, model: LongTailModel, centres: ClassCentres,
    tuned: TunedEnsemble | None,
) -> CheckpointResult:  # fmt: skip
    """Classify the images of the split by every classifier that is made of `centres`."""
    classifiers = classifiers_of(config, whole=bool(centres.seen.all()))
    members = dict.fromkeys(member for classifier in classifiers.values() for member in classifier)
    composed = compose(centres, members, config.attention, config.own_neighbour)
    queries_ND = features_of(images, model, config.split)
    answers = predict(queries_ND, classifiers, composed, centres.scale)
    if tuned is not None:
        setting = tuned.best.setting
        composed = compose(centres, setting.classifier, setting.attention, setting.own_neighbour)
        answers |= predict(queries_ND, {TUNED: setting.classifier}, composed, centres.scale)
    return CheckpointResult(
        name=model.name, state_hash=model.spec.state_hash, centres=centres, answers=answers,
        mismatched_C=mismatched(centres), tuned=tuned,
    )  # fmt: skip


def search(
    config: LongTailEvalConfig, images: LongTailImages, model: LongTailModel, centres: ClassCentres
) -> TunedEnsemble:
    """Choose thresholds, τ and terms on validation images."""
    features_ND, labels_N = features_of(images, model, "validation"), torch.from_numpy(images.labels["validation"])
    space = TransferSpace(attention=(config.attention,))
    settings = draw_settings(space, distinct_thresholds(images.counts_C.tolist()), config.seed, config.search)
    groups = class_groups(images.counts_C, config.groups)
    started = time.perf_counter()
    scored = score_settings(features_ND, labels_N, centres, groups, [*settings, config.setting])
    seconds = time.perf_counter() - started
    best = best_setting(scored[:-1], config.objective)
    print(
        f"searched {len(settings):,} settings on {len(labels_N):,} validation images in {seconds:.1f} s "
        f"({60 * len(settings) / seconds:,.0f} a minute)\nchosen: {best.setting.describe()}\n"
        f"validation, {config.objective}: {best.value(config.objective):.2f}, with --k and --tau "
        f"{scored[-1].value(config.objective):.2f}",
        flush=True,
    )
    return TunedEnsemble(
        best=best, scored=scored[:-1], reference=scored[-1], objective=config.objective, n_images=len(labels_N),
        seconds=seconds,
    )  # fmt: skip


def identity(config: LongTailEvalConfig, images: LongTailImages, models: list[LongTailModel]) -> LongTailIdentity:
    """Return what makes two evaluations the same."""
    left_out = ("data", "image_size", "checkpoint", "device", "threads", "out")
    return LongTailIdentity(
        settings={name: value for name, value in flag_values(config).items() if name not in left_out},
        tables={split: table.fingerprint for split, table in images.tables.items()},
        checkpoints=[CosineNetwork(state_hash=m.spec.state_hash, head_hash=m.head_hash) for m in models],
    )


def report(
    config: LongTailEvalConfig, images: LongTailImages, models: list[LongTailModel],
    found: list[CheckpointResult], run: RunDirectory[ClassRow] | None, command: list[str],
) -> None:  # fmt: skip
    """Print the table, and write everything to `run`, the summary last."""
    whole = bool(models[0].seen_C.all())
    choice = config.setting if whole else continual_setting(config.setting)
    results = LongTailResults(
        benchmark=config.data.benchmark, split=config.split, backbone=config.backbone, class_names=images.class_names,
        counts_C=images.counts_C, labels_N=images.labels[config.split], borders=config.groups, checkpoints=found,
        choice=choice, classifiers=classifiers_of(config, whole=whole),
        n_resamples=config.resamples, seed=config.seed,
    )  # fmt: skip
    summary = summarise_long_tail(results).to_json()
    print("\n" + long_tail_text(summary), end="", flush=True)
    if run is None:
        return
    base = images.tables["base"]
    pictures = np.array(base.images[base.offsets[:-1]])
    run.replace(class_rows(results))
    for name, content in {REPORT: build_page(results, summary, command, pictures), **long_tail_files(summary)}.items():
        run.write_file(name, content)
    run.write_summary(summary_of(identity(config, images, models), summary, session_information(command)))
    print(f"{CLASSES.file}, table.csv, table.md, summary.json, {REPORT}: {run.location}")
