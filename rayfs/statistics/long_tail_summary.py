"""The figures of an evaluation of long-tailed recognition, in percent and percentage points."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rayfs.long_tail.accuracy import GroupFigure, group_accuracy, group_difference
from rayfs.long_tail.groups import RULES
from rayfs.long_tail.mismatches import mismatch_counts
from rayfs.long_tail.search_space import TransferSetting
from rayfs.long_tail.settings import COSINE, ENSEMBLE, TUNED
from rayfs.runs.long_tail_results import CheckpointResult, LongTailResults
from rayfs.statistics.intervals import mean_interval


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure with its 95% interval; None where a group is empty."""

    value: float | None
    low: float | None
    high: float | None


Figures = Mapping[str, Figure]
"""Group -> its figure."""


@dataclass(frozen=True, kw_only=True)
class GroupSize:
    """Classes of a group, and test images of these."""

    n_classes: int
    n_images: int


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How intervals over test images are drawn."""

    n_resamples: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class GainOf:
    """What gains are differences of."""

    classifier: str
    baseline: str


@dataclass(frozen=True, kw_only=True)
class ClassifierFigures:
    """The figures of one classifier."""

    accuracy: Figures
    gain: Figures | None
    """Over the baseline; None for the baseline, and for the cosine classifier where it does not know every class."""


@dataclass(frozen=True, kw_only=True)
class TunedFigures:
    """The ensemble that was chosen on validation images."""

    gain: Figures
    """Over the ensemble of --k and --tau, on test images."""
    setting: TransferSetting
    validation_accuracy: Mapping[str, float]
    reference_validation_accuracy: Mapping[str, float]
    objective: str
    n_settings: int
    """That it was chosen from."""
    n_images: int
    """Validation images."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CheckpointFigures:
    """The figures of one checkpoint, with bootstrap intervals."""

    name: str
    state_hash: str
    scale: float
    mismatches: Mapping[str, int]
    """Group -> classes whose prototype is closest to another class's weights."""
    classifiers: Mapping[str, ClassifierFigures]
    gain: Mapping[str, Figures]
    """`over images` or `over classes`, what a resample draws anew -> the gain."""
    tuned: TunedFigures | None


@dataclass(frozen=True, kw_only=True)
class LongTailSummary:
    """The summary of an evaluation: of each classifier the accuracy of each group, and its gain over the baseline."""

    benchmark: str
    split: str
    backbone: str
    borders: str
    """Of the groups, in words."""
    groups: Mapping[str, GroupSize]
    unseen: Sequence[str]
    """Classes that training left out."""
    settings: TransferSetting
    """Of the ensemble that is not tuned."""
    bootstrap: Bootstrap
    interval: str
    """What intervals are of, in words."""
    classifiers: Mapping[str, ClassifierFigures]
    gain_of: GainOf
    gain: Figures
    tuned_gain: Figures | None
    gain_over_classes: Figures | None
    """With classes drawn anew, too; None for several checkpoints."""
    checkpoints: Sequence[CheckpointFigures]

    def to_json(self) -> dict[str, Any]:
        """Return what `summary.json` holds of it."""
        return asdict(self)


def summarise_long_tail(results: LongTailResults) -> LongTailSummary:
    """Return the summary of an evaluation.

    The baseline is the cosine classifier, or prototypes where the network has not seen some classes: then the cosine
    classifier answers with a class that was seen, and has no figure for a group that holds others.

    With one checkpoint, intervals are bootstrap ones over test images within classes. With several, the figures are
    means over checkpoints with Student-t intervals, which hold the luck of training, too; the bootstrap ones are kept
    under `checkpoints`.
    """
    single = [_of_checkpoint(results, checkpoint) for checkpoint in results.checkpoints]
    tuned = [each.tuned for each in single]
    classifier, baseline = results.contrast
    return LongTailSummary(
        benchmark=results.benchmark,
        split=results.split,
        backbone=results.backbone,
        borders=RULES[results.borders].text,
        groups={
            name: GroupSize(n_classes=int(members.sum()), n_images=int(members[results.labels_N].sum()))
            for name, members in results.groups.items()
        },
        unseen=[name for name, seen in zip(results.class_names, results.seen_C, strict=True) if not seen],
        settings=results.choice,
        bootstrap=Bootstrap(n_resamples=results.n_resamples, seed=results.seed),
        interval=_interval_text(results),
        classifiers={
            name: _over_checkpoints([each.classifiers[name] for each in single]) for name in single[0].classifiers
        },
        gain_of=GainOf(classifier=classifier, baseline=baseline),
        gain=_mean_figures([each.gain["over images"] for each in single]),
        tuned_gain=None if tuned[0] is None else _mean_figures([each.gain for each in tuned if each is not None]),
        gain_over_classes=single[0].gain["over classes"] if len(single) == 1 else None,
        checkpoints=single,
    )


def _interval_text(results: LongTailResults) -> str:
    n = len(results.checkpoints)
    if n == 1:
        return f"95% bootstrap interval over test images within classes, {results.n_resamples:,} resamples"
    return f"mean of {n} checkpoints with Student-t 95% interval over checkpoints"


def _of_checkpoint(results: LongTailResults, checkpoint: CheckpointResult) -> CheckpointFigures:
    settings: dict[str, Any] = {"seed": results.seed, "n_resamples": results.n_resamples}
    groups, answers, (best, baseline) = results.groups, checkpoint.answers, results.contrast
    classifiers = {}
    for name, given in answers.items():
        answered_C = results.answered(name)
        possible = {group: members & bool(answered_C[members].all()) for group, members in groups.items()}
        accuracy = group_accuracy(given, results.labels_N, possible, **settings)
        gain = group_difference(given, answers[baseline], results.labels_N, groups, **settings)
        compared = name not in (baseline, COSINE)
        classifiers[name] = ClassifierFigures(accuracy=_figures(accuracy), gain=_figures(gain) if compared else None)
    gains = {
        f"over {over}": _figures(
            group_difference(
                answers[best], answers[baseline], results.labels_N, groups, over=over, **settings
            )
        )
        for over in ("images", "classes")
    }  # fmt: skip
    return CheckpointFigures(
        name=checkpoint.name,
        state_hash=checkpoint.state_hash,
        scale=checkpoint.centres.scale,
        mismatches=mismatch_counts(checkpoint.mismatched_C, results.seen_groups),
        classifiers=classifiers,
        gain=gains,
        tuned=_tuned(results, checkpoint),
    )


def _tuned(results: LongTailResults, checkpoint: CheckpointResult) -> TunedFigures | None:
    tuned, answers = checkpoint.tuned, checkpoint.answers
    if tuned is None:
        return None
    gain = group_difference(
        answers[TUNED], answers[ENSEMBLE], results.labels_N, results.groups, seed=results.seed,
        n_resamples=results.n_resamples,
    )  # fmt: skip
    return TunedFigures(
        gain=_figures(gain),
        setting=tuned.best.setting,
        validation_accuracy=dict(tuned.best.accuracy),
        reference_validation_accuracy=dict(tuned.reference.accuracy),
        objective=tuned.objective,
        n_settings=len(tuned.scored),
        n_images=tuned.n_images,
        seconds=tuned.seconds,
    )


def _figures(figures: Mapping[str, GroupFigure]) -> dict[str, Figure]:
    return {group: Figure(value=f.value, low=f.low, high=f.high) for group, f in figures.items()}


def _over_checkpoints(found: Sequence[ClassifierFigures]) -> ClassifierFigures:
    gains = [figures.gain for figures in found if figures.gain is not None]
    return ClassifierFigures(
        accuracy=_mean_figures([figures.accuracy for figures in found]), gain=_mean_figures(gains) if gains else None
    )


def _mean_figures(found: Sequence[Figures]) -> Figures:
    """Return the figures of the only checkpoint, or means over several with t intervals."""
    return {group: _mean_figure([figures[group] for figures in found]) for group in found[0]}


def _mean_figure(found: Sequence[Figure]) -> Figure:
    values = [figure.value for figure in found if figure.value is not None]
    if len(found) == 1 or not values:
        return found[0]
    interval = mean_interval(values)
    assert interval.half_width is not None, "there are at least 2"
    low, high = interval.mean - interval.half_width, interval.mean + interval.half_width
    return Figure(value=interval.mean, low=low, high=high)


def order_of_groups(summary: Mapping[str, Any]) -> list[str]:
    """Return the groups that have classes, in the order of the tables."""
    return [name for name, group in summary["groups"].items() if group["n_classes"] > 0]
