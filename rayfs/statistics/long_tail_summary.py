"""The figures of an evaluation of long-tailed recognition, as plain values for summary.json and the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rayfs.long_tail.accuracy import GroupFigure, group_accuracy, group_difference
from rayfs.long_tail.groups import RULES
from rayfs.long_tail.mismatches import mismatch_counts
from rayfs.long_tail.settings import COSINE, ENSEMBLE, TUNED
from rayfs.runs.long_tail_results import CheckpointResult, LongTailResults
from rayfs.statistics.intervals import mean_interval

Figure = dict[str, Any]
"""value, low and high, in percent or percentage points; None where a group is empty."""


def summarise_long_tail(results: LongTailResults) -> dict[str, Any]:
    """Return the summary: of each classifier the accuracy of each group, and its difference to the baseline.

    The baseline is the cosine classifier, or prototypes where the network has not seen some classes: then the cosine
    classifier answers with a class that was seen, and has no figure for a group that holds others.

    With one checkpoint, intervals are bootstrap ones over test images within classes. With several, the figures are
    means over checkpoints with Student-t intervals, which hold the luck of training, too; the bootstrap ones are kept
    under `checkpoints`.
    """
    single = [_of_checkpoint(results, checkpoint) for checkpoint in results.checkpoints]
    names = list(results.checkpoints[0].answers)
    unseen = [name for name, seen in zip(results.class_names, results.seen_C, strict=True) if not seen]
    return {
        "benchmark": results.benchmark,
        "split": results.split,
        "backbone": results.backbone,
        "borders": RULES[results.borders].text,
        "groups": {
            name: {"n_classes": int(members.sum()), "n_images": int(members[results.labels_N].sum())}
            for name, members in results.groups.items()
        },
        "unseen": unseen,
        "settings": asdict(results.choice),
        "bootstrap": {"n_resamples": results.n_resamples, "seed": results.seed},
        "interval": _interval_text(results),
        "classifiers": {name: _over_checkpoints([s["classifiers"][name] for s in single]) for name in names},
        "gain_of": dict(zip(("classifier", "baseline"), results.contrast, strict=True)),
        "gain": _over_checkpoints([s["gain"]["over images"] for s in single]),
        "tuned_gain": _over_checkpoints([s["tuned"] and s["tuned"]["gain"] for s in single]),
        "gain_over_classes": single[0]["gain"]["over classes"] if len(single) == 1 else None,
        "checkpoints": single,
    }


def _interval_text(results: LongTailResults) -> str:
    n = len(results.checkpoints)
    if n == 1:
        return f"95% bootstrap interval over test images within classes, {results.n_resamples:,} resamples"
    return f"mean of {n} checkpoints with Student-t 95% interval over checkpoints"


def _of_checkpoint(results: LongTailResults, checkpoint: CheckpointResult) -> dict[str, Any]:
    settings: dict[str, Any] = {"seed": results.seed, "n_resamples": results.n_resamples}
    groups, answers, (best, baseline) = results.groups, checkpoint.answers, results.contrast
    classifiers = {}
    for name, given in answers.items():
        answered_C = results.answered(name)
        possible = {group: members & bool(answered_C[members].all()) for group, members in groups.items()}
        accuracy = group_accuracy(given, results.labels_N, possible, **settings)
        gain = group_difference(given, answers[baseline], results.labels_N, groups, **settings)
        compared = name not in (baseline, COSINE)
        classifiers[name] = {"accuracy": _plain(accuracy), "gain": _plain(gain) if compared else None}
    gains = {
        f"over {over}": _plain(
            group_difference(
                answers[best], answers[baseline], results.labels_N, groups, over=over, **settings
            )
        )
        for over in ("images", "classes")
    }  # fmt: skip
    return {
        "name": checkpoint.name,
        "state_hash": checkpoint.state_hash,
        "scale": checkpoint.centres.scale,
        "mismatches": mismatch_counts(checkpoint.mismatched_C, results.seen_groups),
        "classifiers": classifiers,
        "gain": gains,
        "tuned": _tuned(results, checkpoint),
    }


def _tuned(results: LongTailResults, checkpoint: CheckpointResult) -> dict[str, Any] | None:
    tuned, answers = checkpoint.tuned, checkpoint.answers
    if tuned is None:
        return None
    gain = group_difference(
        answers[TUNED], answers[ENSEMBLE], results.labels_N, results.groups, seed=results.seed,
        n_resamples=results.n_resamples,
    )  # fmt: skip
    return {
        "gain": _plain(gain),
        "setting": asdict(tuned.best.setting),
        "validation_accuracy": dict(tuned.best.accuracy),
        "reference_validation_accuracy": dict(tuned.reference.accuracy),
        "objective": tuned.objective,
        "n_settings": len(tuned.scored),
        "n_images": tuned.n_images,
        "seconds": tuned.seconds,
    }


def _plain(figures: Mapping[str, GroupFigure]) -> dict[str, Figure]:
    return {group: {"value": f.value, "low": f.low, "high": f.high} for group, f in figures.items()}


def _over_checkpoints(figures: Sequence[Any]) -> Any:
    """Return the only figures, or means with t intervals of the same figures of several checkpoints."""
    first = figures[0]
    if len(figures) == 1 or first is None:
        return first
    if "value" not in first:
        return {key: _over_checkpoints([figure[key] for figure in figures]) for key in first}
    if first["value"] is None:
        return first
    interval = mean_interval([figure["value"] for figure in figures])
    assert interval.half_width is not None, "there are at least 2"
    low, high = interval.mean - interval.half_width, interval.mean + interval.half_width
    return {"value": interval.mean, "low": low, "high": high}


def order_of_groups(summary: Mapping[str, Any]) -> list[str]:
    """Return the groups that have classes, in the order of the tables."""
    return [name for name, group in summary["groups"].items() if group["n_classes"] > 0]
