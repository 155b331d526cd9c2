"""Pairing: which observations of two methods are of the same episode, and the refusal where the episodes differ."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rayfs.errors import InputError
from rayfs.runs.rows import Row
from rayfs.statistics.summary import observations


@dataclass(frozen=True, kw_only=True)
class Side:
    """One method of one run."""

    name: str
    """How messages call it: "lr of runs/a"."""
    rows: Sequence[Row]
    """One for each episode number, ok or failed."""


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """The accuracies of two sides on the distinct episodes that both finished."""

    name_a: str
    """How figures call A: "lr of runs/a"."""
    name_b: str
    episodes: list[str]
    """Hashes, in the order of their numbers in A."""
    a: dict[str, float]
    """Episode hash -> accuracy of A in percent."""
    b: dict[str, float]
    """The same of B."""
    only_a: int
    """Distinct episodes that B does not have."""
    only_b: int
    """Distinct episodes that A does not have."""
    failed_a: int
    """Episodes of both that failed in A; in no figure."""
    failed_b: int
    """Episodes of both that failed in B; in no figure."""


def pair(a: Side, b: Side, *, common: bool = False) -> Pairing:
    """Match the rows of two sides by the hash of their episode; the numbers of the episodes may differ.

    Arguments:
        common: leave out episodes that only one side has, instead of refusing.

    Raises:
        InputError: if the episodes differ (unless `common`), if none is in both, or if none finished in both.
    """
    hashes_a, hashes_b = _hashes(a.rows), _hashes(b.rows)
    shared = hashes_a & hashes_b
    if not shared:
        raise InputError(
            f"cannot pair {a.name} with {b.name}: of {len(hashes_a)} and {len(hashes_b)} episodes none is in both"
            f"{_first_unshared(a, b, shared)}; run both on the same episodes (one --seed, or one --manifest), or "
            "compare them unpaired with --force-unpaired"
        )
    if hashes_a != hashes_b and not common:
        raise InputError(
            f"cannot pair {a.name} with {b.name}: of {len(hashes_a)} and {len(hashes_b)} episodes {len(shared)} are "
            f"in both{_first_unshared(a, b, shared)}; run both on the same episodes, or pass --common to compare "
            f"those {len(shared)} only"
        )
    observed_a, observed_b = observations(a.rows), observations(b.rows)
    numbered = [row.episode_hash for row in sorted(a.rows, key=lambda row: row.episode)]
    episodes = [e for e in dict.fromkeys(numbered) if e in observed_a and e in observed_b]
    if not episodes:
        raise InputError(
            f"cannot compare {a.name} with {b.name}: none of the {len(shared)} episodes of both finished in both; "
            "their rows say why (column error)"
        )
    return Pairing(
        name_a=a.name,
        name_b=b.name,
        episodes=episodes,
        a={episode: observed_a[episode] for episode in episodes},
        b={episode: observed_b[episode] for episode in episodes},
        only_a=len(hashes_a - shared),
        only_b=len(hashes_b - shared),
        failed_a=len(shared - observed_a.keys()),
        failed_b=len(shared - observed_b.keys()),
    )


def _hashes(rows: Iterable[Row]) -> set[str]:
    return {row.episode_hash for row in rows}


def _first_unshared(a: Side, b: Side, shared: set[str]) -> str:
    """Write the first episode number at which a side has an episode that the other lacks, with the hashes."""
    by_number_a = {row.episode: row.episode_hash for row in a.rows}
    by_number_b = {row.episode: row.episode_hash for row in b.rows}
    items = [*by_number_a.items(), *by_number_b.items()]
    first = min((number for number, episode in items if episode not in shared), default=None)
    if first is None:
        return ""
    in_a, in_b = by_number_a.get(first), by_number_b.get(first)
    if in_a is None or in_b is None:
        has, lacks = (a, b) if in_b is None else (b, a)
        found = f"{in_a or in_b} in {has.name}"
        return f"; the first that differs, episode {first} ({found}), is missing in {lacks.name}"
    return f"; the first that differs, episode {first}, is {in_a} in {a.name} and {in_b} in {b.name}"
