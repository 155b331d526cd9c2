"""Mean and interval of a stream, one value at a time."""

import math

from rayfs.statistics.intervals import Interval, half_width


class RunningMean:
    """Welford's recurrence: O(1) time and memory for each value.

    B. P. Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 4(3), 1962.
    For progress lines only: unlike `stats.mean_interval` the last bits depend on the order of the values.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """Take in one observation."""
        self.n += 1
        delta = value - self.mean
        self.mean += delta / self.n
        self._squares += delta * (value - self.mean)

    def interval(self) -> Interval | None:
        """Return the mean and Student-t 95% interval of what was added, None before the first value."""
        if self.n == 0:
            return None
        if self.n == 1:
            return Interval(n=1, mean=self.mean, std=None, half_width=None)
        std = math.sqrt(self._squares / (self.n - 1))
        return Interval(n=self.n, mean=self.mean, std=std, half_width=half_width(std, self.n))
