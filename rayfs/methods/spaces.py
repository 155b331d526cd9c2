"""Spaces of numbers and words that a search draws settings from. No torch here."""

import math
from dataclasses import dataclass
from typing import Any

from rayfs.errors import InputError

DIGITS = 3
"""Significant digits of a drawn number: what is printed, pasted and hashed is exactly what was run."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    """Uniform in the logarithm."""
    integer: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"a space from {self.low:g} to {self.high:g} is none; give LOW:HIGH with LOW below HIGH")
        if self.log and self.low <= 0:
            raise InputError(f"a logarithmic space cannot start at {self.low:g}; give a LOW above 0, or drop ':log'")

    def at(self, share: float) -> float | int:
        """Return the value `share` of the way, 0 to 1, from `low` to `high`."""
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        value = min(max(value, self.low), self.high)
        return round(value) if self.integer else float(f"{value:.{DIGITS}g}")

    def grid(self, n: int) -> list[Any]:
        """Return `n` values at equal distances, each once."""
        return list(dict.fromkeys(self.at(i / (n - 1) if n > 1 else 0.5) for i in range(n)))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Some values, each as probable as the others."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(set(self.values)) < max(2, len(self.values)):
            raise InputError(
                f"a choice of {', '.join(map(str, self.values))} is none; give at least two values, each once"
            )

    def at(self, share: float) -> Any:
        """Return the value `share` of the way, 0 to 1, through the list."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def grid(self, n: int) -> list[Any]:
        """Return all values, however many are asked for."""
        return list(self.values)


Space = Range | Choice

INVERSE_PENALTY = Range(low=0.01, high=100, log=True)
"""Of a logistic regression (ours)."""

SUPPORT_VIEWS = Choice(values=(1, 2, 5, 10, 25))
"""Views of each support image that a classifier is fitted to (ours)."""
