"""The learning curve: one row an epoch, and which epoch is the best."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch gave; one row of the learning curve."""

    epoch: int
    """1-based."""
    learning_rate: float
    """At the epoch's first step."""
    loss: float
    """Mean training loss."""
    parts: dict[str, float] = field(default_factory=dict)
    """Mean of each term of the loss, unweighted."""
    train_accuracy: float
    """Fraction of augmented base images classified correctly, as they were seen."""
    validation_accuracy: float
    """Mean fraction over the validation episodes, or over the classes of a long-tailed benchmark."""
    validation_half_width: float
    """Of its 95% interval (normal)."""
    seconds: float
    """Of training and validation together."""
    images_per_second: float
    """Base images, or whatever the units of a step are, trained on in a second, over all workers."""


def best_epoch(curve: Sequence[EpochReport]) -> EpochReport:
    """Return the epoch that is best on validation classes, the first of equals."""
    return max(curve, key=lambda report: report.validation_accuracy)


def curve_line(report: EpochReport, n_epochs: int, measure: str, kept: bool) -> str:
    """Return one line for printing.

    Arguments:
        measure: what the accuracy on validation classes is of: "5-way 1-shot".
        kept: whether the epoch is the best so far.
    """
    parts = " ".join(f"{name} {value:.3f}" for name, value in report.parts.items()) if len(report.parts) > 1 else ""
    return (
        f"epoch {report.epoch}/{n_epochs} | loss {report.loss:.3f}{f' ({parts})' if parts else ''} | "
        f"base {100 * report.train_accuracy:.1f} | "
        f"validation {measure} {100 * report.validation_accuracy:.2f} ± {100 * report.validation_half_width:.2f}"
        f"{' (best so far, saved)' if kept else ''} | {report.seconds:.0f} s"
    )
