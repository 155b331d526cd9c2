"""The page of an evaluation of long-tailed recognition: one HTML file that refers to nothing outside."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rayfs.backbones.heads import l2_normalize
from rayfs.long_tail.centres import compose
from rayfs.long_tail.mismatches import mismatch_counts
from rayfs.long_tail.settings import CONTINUAL, COSINE, ENSEMBLE, FEW, PROTOTYPES, TUNED, composed, continual
from rayfs.long_tail.transfer import transfer_weights
from rayfs.redaction import without_secrets
from rayfs.reports.document import Block, Code, Figure, Gallery, Grid, Picture, Report, Section, Strip, Table
from rayfs.reports.long_tail.figures import draw_accuracy_by_count, draw_plane, draw_search
from rayfs.reports.long_tail.projection import project
from rayfs.reports.long_tail.tables import long_tail_table, published_table, with_interval
from rayfs.reports.published import compositional
from rayfs.reports.render import render
from rayfs.reports.result_table import ResultTable
from rayfs.reports.sprites import strip
from rayfs.runs.long_tail_results import CheckpointResult, LongTailResults

N_SHOWN, N_NEIGHBOURS, N_HIGHLIGHTED = 8, 6, 6
"""Few-shot classes whose neighbours are shown, how many of these, and classes named on the plane."""


def build_page(
    results: LongTailResults, summary: Mapping[str, Any], command: Sequence[str], images_CHWC: np.ndarray | None
) -> str:
    """Return the page.

    Arguments:
        summary: what `summarise_long_tail` returns.
        command: that made the results.
        images_CHWC: a training image of each class, uint8; None for a page without pictures.
    """
    first, again = results.checkpoints[0], without_secrets(shlex.join(command))
    report = Report(
        title=f"{results.benchmark}, {results.backbone}, long tail",
        lead="Compositional knowledge transfer: classifiers made of a trained cosine head and class prototypes, "
        "without training",
        facts=_facts(results),
        head=[Code(again)],
        sections=[
            _result(results, summary),
            Section("Classes", [Grid([_by_count(results, first), _plane(results, first)])]),
            _neighbours(results, first, images_CHWC),
            _mismatches(results),
            *_search(results, summary),
        ],
        footer="This page comes from the answers to the test images.",
        command=again,
    )
    return render(report)


def _facts(results: LongTailResults) -> dict[str, str]:
    choice, counts = results.choice, results.counts_C
    facts = {
        "Training images": f"{counts.sum():,} of {len(counts):,} classes, {counts.max():,} to {counts.min():,} a class",
        "Test images": f"{len(results.labels_N):,}, split {results.split}",
        "Checkpoints": "; ".join(
            f"{c.name}, state {c.state_hash}, s {c.centres.scale:.2f}" for c in results.checkpoints
        ),
        "Ensemble": choice.describe(),
    }  # fmt: skip
    if not results.seen_C.all():
        unseen = counts[~results.seen_C]
        facts["Ensemble"] += "; with prototypes" if PROTOTYPES in results.classifiers[CONTINUAL] else ""
        facts["Not seen in training"] = (
            f"{len(unseen)} classes, of {unseen.max():,} to {unseen.min():,} training images"
        )
    return facts


def _result(results: LongTailResults, summary: Mapping[str, Any]) -> Section:
    published = published_table(results.benchmark, not results.seen_C.all())
    beside = Section(f"Published ({compositional.PAPER.short})", [Table(published)])
    return Section("Result", [Table(long_tail_table(summary)), beside])


def _threshold(results: LongTailResults) -> int:
    """Return the k that figures of transfer are of: the paper's 20 where it was asked for, else the least above 0."""
    thresholds = results.choice.thresholds
    return FEW if FEW in thresholds else min((k for k in thresholds if k > 0), default=thresholds[0])


def _few(results: LongTailResults, n: int) -> list[int]:
    """Return `n` few-shot classes, or the rarest where there are none, spread evenly over their numbers of images."""
    order = np.argsort(results.counts_C, kind="stable")
    few = [int(c) for c in order if results.groups["few"][c]] or [int(c) for c in order[:n]]
    return [few[i] for i in np.unique(np.linspace(0, len(few) - 1, min(n, len(few))).round().astype(int))]


def _by_count(results: LongTailResults, checkpoint: CheckpointResult) -> Figure:
    best, _ = results.contrast
    shown = [name for name in (COSINE, PROTOTYPES.name, best, TUNED) if name in checkpoint.answers]
    caption = (
        "A point for each class, lines are running means over an eighth of the classes; borders of the groups in grey."
    )
    return Figure(draw_accuracy_by_count(results, checkpoint, shown), "Accuracy against training images", caption)


def _plane(results: LongTailResults, checkpoint: CheckpointResult) -> Figure:
    centres, whole = checkpoint.centres, bool(results.seen_C.all())
    member = (composed if whole else continual)(_threshold(results), results.choice.tau)
    made = compose(centres, [member], results.choice.attention, results.choice.own_neighbour)[member]
    points = torch.stack([l2_normalize(x) for x in (centres.weights_CD, centres.prototypes_CD, made)]).flatten(0, 1)
    there = points.any(1).numpy()
    flat = np.full((len(points), 2), np.nan)
    flat[there], how = project(points.numpy()[there])
    joined = "three centres" if whole else "centres"
    without = "" if whole else " Classes that were not seen in training have no weights."
    highlighted = {c: results.class_names[c] for c in _few(results, N_HIGHLIGHTED)}
    kinds = ("weights", "prototypes", member.name)
    drawn = draw_plane(flat.reshape(3, -1, 2), kinds, results.groups, highlighted)
    caption = f"{how} of the cosines. Lines join the {joined} of some few-shot classes.{without}"
    return Figure(drawn, "Class centres on a plane", caption)


def _neighbours(results: LongTailResults, checkpoint: CheckpointResult, images_CHWC: np.ndarray | None) -> Section:
    choice, centres, k = results.choice, checkpoint.centres, _threshold(results)
    classes = _few(results, N_SHOWN)
    own = None if choice.own_neighbour else torch.tensor(classes)
    weights = transfer_weights(
        centres.queries(choice.attention)[classes], centres.keys(choice.attention), centres.asked_C, k, choice.tau, own
    )
    prose = (
        f"What few-shot classes learn from: the classes with more than {k} training images that weigh most in "
        f"wᵏᵗ({k}) at τ {choice.tau:g}, with α (the weights of all neighbours sum to 1), name, number of training "
        "images, and one of them."
    )
    blocks: list[Block] = [
        _of_class(results, class_id, weights_C, images_CHWC)
        for class_id, weights_C in zip(classes, weights, strict=True)
    ]
    return Section("Semantic neighbours", blocks, prose)


def _of_class(
    results: LongTailResults, class_id: int, weights_C: torch.Tensor, images_CHWC: np.ndarray | None
) -> Gallery:  # fmt: skip
    """Return a class beside the classes that weigh most in what is transferred to it."""
    strongest = [int(j) for j in torch.argsort(weights_C, descending=True)[:N_NEIGHBOURS] if weights_C[j] > 0]
    shown = [class_id, *strongest]
    names = [results.class_names[j] for j in shown]
    values = ["itself", *(f"{weights_C[j]:.3f}" for j in strongest)]
    block: Strip | Table
    if images_CHWC is None:
        lines = list(zip(names, values, strict=True))
        block = Table(ResultTable(heading=["class", "α"], lines=lines, n_texts=1))
    else:
        pictures = [
            Picture(description=f"{name}: {value}", value=value, name=f"{name}, {results.counts_C[j]:,}")
            for j, name, value in zip(shown, names, values, strict=True)
        ]
        block = strip(images_CHWC[shown], pictures, large=True)
    return Gallery(f"{names[0]}, {results.counts_C[class_id]:,} training images", [block])


def _mismatches(results: LongTailResults) -> Section:
    groups = results.seen_groups
    counted = [(c.name, mismatch_counts(c.mismatched_C, groups)) for c in results.checkpoints]
    lines = [(name, *(f"{counts[g]} of {int(groups[g].sum())}" for g in groups)) for name, counts in counted]
    prose = (
        "Classes whose prototype is closer, by cosine, to the classifier weights of another class than to its own "
        "(table 8 of the paper counts all classes): the fewer, the better prototypes choose what is transferred."
    )
    if not results.seen_C.all():
        prose += " Classes that were not seen in training have no weights and are not counted."
    table = ResultTable(heading=["checkpoint", *groups], lines=lines, n_texts=1)
    return Section("Prototypes that disagree", [Table(table)], prose)


def _search(results: LongTailResults, summary: Mapping[str, Any]) -> list[Section]:
    tuned = results.checkpoints[0].tuned
    if tuned is None:
        return []
    figures = summary["classifiers"]
    lines = [
        (name, scored.setting.describe(), f"{scored.value(tuned.objective):.2f}",
         *(with_interval(figures[classifier]["accuracy"][group]) for group in ("few", "all")))
        for name, scored, classifier in (
            ("chosen", tuned.best, TUNED), ("of --k and --tau", tuned.reference, ENSEMBLE),
        )
    ]  # fmt: skip
    columns = ["setting", "", f"validation, {tuned.objective} %", "test, few %", "test, all %"]
    prose = (
        f"{len(tuned.scored):,} settings on {tuned.n_images:,} validation images in {tuned.seconds:.1f} s "
        f"({60 * len(tuned.scored) / max(tuned.seconds, 1e-9):,.0f} a minute); test images chose nothing."
    )
    table = Table(ResultTable(heading=columns, lines=lines, n_texts=2))
    drawn = Figure(draw_search(tuned), "Validation accuracy against τ", "A point for each setting.")
    return [Section("Tuned on validation images", [table, drawn], prose)]
