"""Confusion and per-class accuracy, worked by hand."""

import numpy as np
import pytest

from rayfs.datasets.episode_file import EpisodeFile
from rayfs.datasets.episodes import Episode, Protocol
from rayfs.reports.episodes.class_accuracy import ClassCounts, confused_pairs, count_classes, largest_mistake
from rayfs.runs.rows import Row

PROTOCOL = Protocol(n_way=2, n_shot=1, n_query=3, split="test")


def episode(index: int, class_ids: list[int]) -> Episode:
    rows = 10 * np.array(class_ids)[:, None] + index
    return Episode(index=index, class_ids=np.array(class_ids), support_ids=rows, query_ids=rows + np.arange(1, 4))


EPISODES = [episode(0, [4, 1]), episode(1, [1, 2]), episode(2, [4, 1])]
MANIFEST = EpisodeFile(fingerprint="f", protocol=PROTOCOL, class_names=("a", "b", "c", "d", "e"), episodes=EPISODES)


def row(of: Episode, predictions: list[int], method: str = "lr", labels: tuple[int, ...] = (0, 0, 0, 1, 1, 1)) -> Row:
    accuracy = float(np.mean(np.equal(predictions, labels)))
    return Row(
        episode=of.index, method=method, status="ok", accuracy=accuracy, predictions=predictions, labels=list(labels),
        episode_hash=of.hash, config_hash="c",
    )  # fmt: skip


@pytest.fixture
def counts() -> ClassCounts:
    """Three episodes: e against b, b against c, and e against b again."""
    rows = [
        row(EPISODES[0], [0, 0, 1, 1, 1, 1]),
        row(EPISODES[1], [0, 1, 1, 1, 1, 0]),
        row(EPISODES[2], [0, 1, 1, 1, 1, 1]),
    ]
    return count_classes(rows, MANIFEST)["lr"]


def test_confusion_counts_classes_of_the_table(counts: ClassCounts) -> None:
    assert counts.class_ids.tolist() == [1, 2, 4] and counts.names == ("b", "c", "e")
    assert counts.confusion.tolist() == [[7, 2, 0], [1, 2, 0], [3, 0, 3]]
    assert counts.n_queries.tolist() == [9, 3, 6]
    assert counts.n_episodes == 3 and counts.n_left_out == 0


def test_accuracy_and_rates_are_shares_of_the_true_class(counts: ClassCounts) -> None:
    assert counts.accuracy == pytest.approx([100 * 7 / 9, 100 * 2 / 3, 50])
    assert counts.rates.sum(axis=1) == pytest.approx([1, 1, 1])
    assert largest_mistake(counts) == 0.5


def test_mistakes_are_listed_by_share_and_what_never_happened_is_not(counts: ClassCounts) -> None:
    assert confused_pairs(counts, 10) == [
        ("e", "b", 3, 0.5),
        ("c", "b", 1, pytest.approx(1 / 3)),
        ("b", "c", 2, pytest.approx(2 / 9)),
    ]
    assert confused_pairs(counts, 1) == [("e", "b", 3, 0.5)]


def test_an_episode_that_was_solved_twice_counts_once() -> None:
    twice = EpisodeFile(
        fingerprint="f", protocol=PROTOCOL, class_names=(), episodes=[EPISODES[0], Episode(
            index=9, class_ids=EPISODES[0].class_ids, support_ids=EPISODES[0].support_ids,
            query_ids=EPISODES[0].query_ids)],
    )  # fmt: skip
    rows = [row(twice.episodes[0], [0, 0, 0, 1, 1, 1]), row(twice.episodes[1], [1, 1, 1, 0, 0, 0])]
    counts = count_classes(rows, twice)["lr"]
    assert counts.n_episodes == 1 and counts.confusion.tolist() == [[3, 0], [0, 3]]
    assert counts.names == ("class 1", "class 4"), "the manifest has no names"
    assert confused_pairs(counts, 5) == [] and largest_mistake(counts) == 0


def test_labels_may_stand_in_any_order() -> None:
    mixed = row(EPISODES[0], [1, 0, 0, 1, 1, 0], labels=(1, 0, 1, 0, 1, 0))
    assert count_classes([mixed], MANIFEST)["lr"].confusion.tolist() == [[2, 1], [1, 2]]


def test_rows_of_other_episodes_and_failed_rows_are_left_out() -> None:
    stranger = row(episode(0, [2, 3]), [0, 0, 0, 1, 1, 1])
    broken = Row(episode=1, method="cosine", status="failed", episode_hash=EPISODES[1].hash, config_hash="c", error="x")
    counts = count_classes([stranger, row(EPISODES[1], [0, 0, 0, 1, 1, 1]), broken], MANIFEST)
    assert counts.keys() == {"lr"}
    assert counts["lr"].n_left_out == 1 and counts["lr"].n_episodes == 1
    assert count_classes([stranger, broken], MANIFEST) == {}
