"""The winner of a search beside the recipe's default, in words."""

from collections.abc import Sequence

from rayfs.reports.text_table import plus_minus
from rayfs.statistics.trials import Trial, gain_over_default


def against_default(trials: Sequence[Trial]) -> str | None:
    """Return a sentence on the winner minus the recipe's default; None where there is nothing to compare."""
    paired = gain_over_default(trials)
    if paired is None:
        return None
    assert paired.half_width is not None, "at least two episodes"
    text = f"On the same {paired.n} episodes the winner minus the recipe's default is "
    text += plus_minus(paired.mean, paired.half_width, sign="+")
    if paired.mean > paired.half_width:
        return f"{text} points."
    return f"{text} points, which is noise: the default may be as good, or better. More --episodes would tell."
