"""Intervals and paired comparisons over distinct episodes; plain Python, scipy only where a distribution is needed.

Values carry whatever unit the caller uses (fractions or percent); results come back in the same unit. Sums are exact
(`math.fsum`), so no result depends on the order in which the episodes finished. No randomness is used.
"""

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rayfs.errors import InputError

K = TypeVar("K", int, str)

CONFIDENCE = 0.95
"""Two-sided level of every interval of this project."""

TIE = 1e-12
"""Two accuracies closer than this are a tie: k/n computed in two ways may differ in the last bits."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its Student-t 95% interval, mean ± half_width."""

    n: int
    """Observations."""
    mean: float
    std: float | None
    """Standard deviation between episodes (ddof = 1), None for one observation. Never to be printed as an interval."""
    half_width: float | None
    """h = t(0.975, n-1) * std / sqrt(n), None for one observation."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Method minus baseline on the same episodes."""

    interval: Interval
    """Mean difference with its paired t interval."""
    win: int
    tie: int
    loss: int
    p_sign: float | None
    """Two-sided sign test, ties dropped; None if every episode is a tie."""
    p_wilcoxon: float | None
    """Two-sided Wilcoxon signed-rank test, zero differences dropped; None if every episode is a tie."""


@dataclass(frozen=True, kw_only=True)
class UnpairedDifference:
    """Method minus baseline on different episodes, by Welch's t: the variances need not be equal."""

    mean: float
    half_width: float | None
    """h = t(0.975, df) * sqrt(std_a^2 / n_a + std_b^2 / n_b), None if one side has a single observation."""
    degrees_of_freedom: float | None
    """Of Welch and Satterthwaite; None where there is no interval or neither side varies."""
    p: float | None
    """Two-sided Welch test; None where there are no degrees of freedom."""


def half_width(std: float, n: int) -> float:
    """Return t(0.975, n-1) * std / sqrt(n) for `n` >= 2 observations."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(n)


def mean_interval(values: Collection[float]) -> Interval:
    """Return the mean of `values` and its Student-t 95% interval.

    Raises:
        InputError: if there are no values.
    """
    n = len(values)
    if n == 0:
        raise InputError("a mean of 0 episodes was asked for; at least 1 finished episode is needed")
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(n=1, mean=mean, std=None, half_width=None)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Interval(n=n, mean=mean, std=std, half_width=half_width(std, n))


def episodes_needed(std: float, target: float) -> int:
    """Return the fewest episodes whose 95% half-width is at most `target`, given their standard deviation `std`.

    Raises:
        InputError: if `target` is not positive or `std` is negative or not finite.
    """
    if not target > 0 or not 0 <= std < math.inf:
        raise InputError(
            f"episodes for ±{target} at standard deviation {std}: give a positive ± and a finite deviation"
        )
    low, high = 1, 2
    while half_width(std, high) > target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if half_width(std, middle) > target else (low, middle)
    return high


def paired_difference(values: Mapping[K, float], baseline: Mapping[K, float]) -> PairedDifference:
    """Compare two methods on the same episodes.

    Arguments:
        values: episode (index or hash) -> value of the method.
        baseline: episode -> value of the baseline, for exactly the same episodes.

    Raises:
        InputError: if the episodes are not the same, naming the first that differs, or if there are none.
    """
    differing = sorted(values.keys() ^ baseline.keys())
    if differing:
        owner = "method" if differing[0] in values else "baseline"
        raise InputError(
            f"cannot pair {len(values)} episodes with {len(baseline)}: {len(differing)} are not in both; the first, "
            f"episode {differing[0]}, is only in the {owner}'s; run both on the same episodes"
        )
    differences = [values[episode] - baseline[episode] for episode in sorted(values)]
    differences = [0.0 if abs(difference) < TIE else difference for difference in differences]
    win, loss = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return PairedDifference(
        interval=mean_interval(differences),
        win=win,
        tie=len(differences) - win - loss,
        loss=loss,
        p_sign=sign_test(win, loss),
        p_wilcoxon=wilcoxon_test(differences),
    )


def unpaired_difference(values: Collection[float], baseline: Collection[float]) -> UnpairedDifference:
    """Compare two methods on different episodes, which a paired comparison cannot: wider, as a rule much wider.

    v = std^2 / n of each side, df = (v_a + v_b)^2 / (v_a^2 / (n_a - 1) + v_b^2 / (n_b - 1)).

    Raises:
        InputError: if a side has no values.
    """
    from scipy.special import stdtr, stdtrit

    a, b = mean_interval(values), mean_interval(baseline)
    mean = a.mean - b.mean
    if a.std is None or b.std is None:
        return UnpairedDifference(mean=mean, half_width=None, degrees_of_freedom=None, p=None)
    variance_a, variance_b = a.std**2 / a.n, b.std**2 / b.n
    error = math.sqrt(variance_a + variance_b)
    if error == 0:
        return UnpairedDifference(mean=mean, half_width=0.0, degrees_of_freedom=None, p=None)
    # Shares of the variance, not the variances: their squares could be too small for a float.
    share_a, share_b = variance_a / error**2, variance_b / error**2
    freedom = 1 / (share_a**2 / (a.n - 1) + share_b**2 / (b.n - 1))
    return UnpairedDifference(
        mean=mean,
        half_width=float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error,
        degrees_of_freedom=freedom,
        p=min(1.0, 2 * float(stdtr(freedom, -abs(mean) / error))),
    )


def correlation(pairs: Collection[tuple[float, float]]) -> float | None:
    """Return Pearson's r of `pairs`, in [-1, 1]; None for fewer than 2 or where a side does not vary.

    The higher it is, the more pairing helps: var(a - b) = var(a) + var(b) - 2 r std(a) std(b).
    """
    n = len(pairs)
    if n < 2:
        return None
    mean_a, mean_b = math.fsum(a for a, _ in pairs) / n, math.fsum(b for _, b in pairs) / n
    square_a = math.fsum((a - mean_a) ** 2 for a, _ in pairs)
    square_b = math.fsum((b - mean_b) ** 2 for _, b in pairs)
    if min(square_a, square_b) <= n * TIE**2:
        return None
    product = math.fsum((a - mean_a) * (b - mean_b) for a, b in pairs)
    return max(-1.0, min(1.0, product / math.sqrt(square_a * square_b)))


def sign_test(win: int, loss: int) -> float | None:
    """Return the two-sided p of `win` against `loss` under Binomial(win + loss, 1/2); None if both are 0."""
    from scipy.special import bdtr

    n = win + loss
    return min(1.0, 2 * float(bdtr(min(win, loss), n, 0.5))) if n else None


def wilcoxon_test(differences: Sequence[float]) -> float | None:
    """Return the two-sided p of Wilcoxon's signed-rank test; None if all differences are zero.

    Differences are rounded to 12 decimals first: ranks must not be decided by the last bits of 0.8 - 0.6 and 0.6 - 0.4.
    """
    rounded = [round(difference, 12) for difference in differences if abs(difference) >= TIE]
    if not rounded:
        return None
    from scipy.stats import wilcoxon

    with warnings.catch_warnings():
        # Some scipy versions warn that the normal approximation is coarse for few observations; it is all there is.
        warnings.simplefilter("ignore")
        return float(wilcoxon(rounded).pvalue)
