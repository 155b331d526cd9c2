"""What is mistaken for what: counts over the classes of the table, from the answers of the rows."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rayfs.datasets.episode_file import EpisodeFile
from rayfs.runs.rows import Row


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassCounts:
    """Answers of one method. C: classes of the table that any of its episodes holds; q: query images."""

    class_ids: np.ndarray
    """(C,) int64, ids in the table, ascending."""
    names: tuple[str, ...]
    """(C,) names of the classes, "class 7" where the run does not know them."""
    confusion: np.ndarray
    """(C, C) int64: query images of the row's class that were taken for the column's."""
    n_episodes: int
    """Distinct episodes counted; of an episode that was solved twice, the first row counts."""
    n_left_out: int
    """Rows whose episode the run's manifest does not hold."""

    @property
    def n_queries(self) -> np.ndarray:
        """Query images of each class, (C,) int64."""
        n: np.ndarray = self.confusion.sum(axis=1)
        return n

    @property
    def accuracy(self) -> np.ndarray:
        """Percent of each class's query images that were classified correctly, (C,) float64; 0 where it has none."""
        return 100 * np.diag(self.rates)

    @property
    def rates(self) -> np.ndarray:
        """The confusion matrix with rows that sum to 1 (to 0 for a class without query images), (C, C) float64."""
        rates: np.ndarray = self.confusion / np.maximum(self.n_queries, 1)[:, None]
        return rates


def largest_mistake(counts: ClassCounts) -> float:
    """Return the largest share of a class's images that was taken for one other class."""
    return float(np.where(np.eye(len(counts.names), dtype=bool), 0, counts.rates).max())


def count_classes(rows: Iterable[Row], manifest: EpisodeFile) -> dict[str, ClassCounts]:
    """Return the counts of every method that has a finished episode of the manifest, in the order of the rows.

    A class can only be mistaken for one that is drawn into the same episode: rates of pairs are shares of all query
    images, whether or not the other class was there.
    """
    of_method: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.status == "ok":
            of_method[row.method].append(row)
    episodes = {episode.index: episode for episode in manifest.episodes}
    counts = {}
    for method, finished in of_method.items():
        known = [row for row in finished if row.episode in episodes and episodes[row.episode].hash == row.episode_hash]
        known = [row for row in known if len(row.labels) > 0]
        distinct = list({row.episode_hash: row for row in reversed(known)}.values())
        if distinct:
            class_ids = np.stack([episodes[row.episode].class_ids for row in distinct])
            counts[method] = _counts(distinct, class_ids, manifest.class_names, len(finished) - len(known))
    return counts


def confused_pairs(counts: ClassCounts, n: int) -> list[tuple[str, str, int, float]]:
    """Return the `n` most frequent mistakes as (true class, taken for, images, share of the true class's images).

    Sorted by the share, then by the classes' order; pairs that never happened are left out.
    """
    off = np.where(np.eye(len(counts.names), dtype=bool), 0, counts.confusion)
    pairs = sorted(zip(*np.nonzero(off), strict=True), key=lambda pair: (-counts.rates[pair], pair))
    return [(counts.names[i], counts.names[j], int(off[i, j]), float(counts.rates[i, j])) for i, j in pairs[:n]]


def _counts(rows: Sequence[Row], class_ids: np.ndarray, names: Sequence[str], n_left_out: int) -> ClassCounts:
    lengths = [len(row.labels) for row in rows]
    which = np.repeat(np.arange(len(rows)), lengths)
    true, taken = (
        class_ids[which, np.concatenate([np.asarray(getattr(row, name), dtype=np.int64) for row in rows])]
        for name in ("labels", "predictions")
    )
    present, positions = np.unique(np.concatenate([true, taken]), return_inverse=True)
    true, taken = np.split(positions, 2)
    n = len(present)
    return ClassCounts(
        class_ids=present,
        names=tuple(names[c] if c < len(names) else f"class {c}" for c in present),
        confusion=np.bincount(true * n + taken, minlength=n * n).reshape(n, n),
        n_episodes=len(rows), n_left_out=n_left_out,
    )  # fmt: skip
