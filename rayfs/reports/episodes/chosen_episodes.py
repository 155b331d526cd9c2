"""Which episodes of a run a report shows: the best, the middle and the worst, the same in every build."""

from collections.abc import Sequence
from dataclasses import dataclass

from rayfs.runs.rows import Row
from rayfs.statistics.intervals import TIE


@dataclass(frozen=True, kw_only=True)
class ChosenEpisode:
    """One episode worth a look."""

    reason: str
    """Why it is shown, as a heading."""
    row: Row
    """Of the method that is looked at."""
    baseline_row: Row | None

    @property
    def gain_pt(self) -> float | None:
        """Percentage points over the baseline, None without one."""
        if self.baseline_row is None:
            return None
        assert self.row.accuracy is not None and self.baseline_row.accuracy is not None
        return 100 * (self.row.accuracy - self.baseline_row.accuracy)


def choose_episodes(rows: Sequence[Row], method: str, baseline: str | None) -> list[ChosenEpisode]:
    """Return the episodes of the largest gain, the median gain and the largest loss of `method`; no one twice.

    Without a baseline, those of the highest, median and lowest accuracy. Only episodes that both finished count; of
    equal ones the lowest number comes first, and of an even number the lower middle is the median.
    """
    finished = {(row.method, row.episode): row for row in rows if row.accuracy is not None}
    pairs = [
        ChosenEpisode(reason="", row=row, baseline_row=finished.get((baseline, row.episode)) if baseline else None)
        for (name, _), row in sorted(finished.items())
        if name == method and (baseline is None or (baseline, row.episode) in finished)
    ]
    if not pairs:
        return []
    ranked = sorted(pairs, key=lambda pair: (_rounded(pair), pair.row.episode))
    lowest, median = ranked[0], ranked[(len(ranked) - 1) // 2]
    highest = next(pair for pair in ranked if _rounded(pair) == _rounded(ranked[-1]))
    what = "accuracy" if baseline is None else "gain"
    reasons = {
        f"{'Highest' if baseline is None else 'Largest'} {what}": highest,
        f"Median {what}": median,
        _lowest_reason(lowest): lowest,
    }
    chosen: dict[int, ChosenEpisode] = {}
    for reason, pair in reasons.items():
        if pair.row.episode not in chosen:
            chosen[pair.row.episode] = ChosenEpisode(reason=reason, row=pair.row, baseline_row=pair.baseline_row)
    return list(chosen.values())


def _rounded(pair: ChosenEpisode) -> float:
    """Return the gain (or accuracy) without the last bits, which must not decide."""
    assert pair.row.accuracy is not None
    return round(pair.row.accuracy if pair.gain_pt is None else pair.gain_pt / 100, 10)


def _lowest_reason(lowest: ChosenEpisode) -> str:
    if lowest.gain_pt is None:
        return "Lowest accuracy"
    return "Largest loss" if lowest.gain_pt < -TIE else "Smallest gain"
