"""Which episodes a report shows."""

from collections.abc import Callable

from rayfs.reports.episodes.chosen_episodes import choose_episodes
from rayfs.runs.rows import Row

MakeRow = Callable[..., Row]


def chosen(rows: list[Row], baseline: str | None = "lr") -> list[tuple[str, int]]:
    return [(episode.reason, episode.row.episode) for episode in choose_episodes(rows, "hal", baseline)]


def rows_of(make_row: MakeRow, method: str, accuracies: list[float | None]) -> list[Row]:
    return [make_row(i, method, accuracy) for i, accuracy in enumerate(accuracies)]


def test_the_largest_gain_the_median_and_the_largest_loss_are_chosen(make_row: MakeRow) -> None:
    rows = rows_of(make_row, "lr", [0.5, 0.5, 0.5, 0.5, 0.5]) + rows_of(make_row, "hal", [0.6, 0.4, 0.9, 0.5, 0.55])
    assert chosen(rows) == [("Largest gain", 2), ("Median gain", 4), ("Largest loss", 1)]
    assert chosen(list(reversed(rows))) == chosen(rows)


def test_of_equal_episodes_the_lowest_number_is_chosen_whatever_the_last_bits_say(make_row: MakeRow) -> None:
    rows = rows_of(make_row, "lr", [0.4, 0.6, 0.2, 0.5]) + rows_of(make_row, "hal", [0.6, 0.8, 0.4, 0.7])
    assert chosen(rows) == [("Largest gain", 0), ("Median gain", 1)]


def test_without_any_loss_the_smallest_gain_is_named_as_such(make_row: MakeRow) -> None:
    rows = rows_of(make_row, "lr", [0.5, 0.5, 0.5]) + rows_of(make_row, "hal", [0.7, 0.6, 0.9])
    assert chosen(rows)[-1] == ("Smallest gain", 1)


def test_without_a_baseline_accuracies_decide(make_row: MakeRow) -> None:
    rows = rows_of(make_row, "hal", [0.7, 0.6, 0.9])
    assert chosen(rows, None) == [("Highest accuracy", 2), ("Median accuracy", 0), ("Lowest accuracy", 1)]


def test_episodes_that_one_of_the_two_did_not_finish_do_not_count(make_row: MakeRow) -> None:
    rows = rows_of(make_row, "lr", [None, 0.5]) + rows_of(make_row, "hal", [0.9, 0.6, 0.7])
    assert chosen(rows) == [("Largest gain", 1)]
    assert chosen(rows_of(make_row, "hal", [None]), None) == []
