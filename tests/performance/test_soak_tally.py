"""The tally of a soak finds every fault that it is there to find."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rayfs.performance.soak_tally import (
    FLAT_MB,
    EpisodeTally,
    FaultTally,
    committed_rows,
    soak_table,
    tally_episodes,
    tally_memory,
)
from rayfs.runs.episode_rows import EPISODES
from rayfs.runs.parts import encode_part
from rayfs.runs.rows import Row

MakeRow = Callable[..., Row]
METHODS = ("logistic-regression", "label-halluc")
N = 6


@pytest.fixture
def quiet(make_row: MakeRow) -> list[Row]:
    return [make_row(episode, method) for episode in range(N) for method in METHODS]


def tally(rows: list[Row], reference: list[Row]) -> EpisodeTally:
    return tally_episodes(rows, reference, METHODS, N)


def test_rows_like_those_of_the_quiet_run_are_right_whatever_their_order_attempts_and_workers(quiet) -> None:
    rows = [replace(row, attempt=1 + (row.episode == 4), worker="7", seconds=9.0) for row in reversed(quiet)]
    found = tally(rows, quiet)
    assert found.right
    assert found == EpisodeTally(
        wanted=N, done=N, lost=0, duplicated=0, failed=0, compared=N, different=0, retried=1, most_attempts=2
    )


@pytest.mark.parametrize("n_lost_rows", [1, 2])
def test_an_episode_that_lacks_a_method_is_lost_and_counted_once(quiet, n_lost_rows) -> None:
    found = tally(quiet[n_lost_rows:], quiet)
    assert (found.lost, found.done, found.right) == (1, N - 1, False)


def test_a_second_row_is_a_duplicate_even_if_it_is_the_same(quiet) -> None:
    found = tally([*quiet, quiet[3]], quiet)
    assert (found.duplicated, found.done, found.right) == (1, N - 1, False)


def test_rows_that_nobody_asked_for_count_as_duplicates(quiet, make_row) -> None:
    assert tally([*quiet, make_row(N, "logistic-regression")], quiet).duplicated == 1
    assert tally([*quiet, make_row(0, "hard-label")], quiet).duplicated == 1
    assert not tally([*quiet, make_row(N, "logistic-regression")], quiet).right


@pytest.mark.parametrize("change", [{"accuracy": 0.8000000000000002}, {"predictions": [0, 1, 1]}, {"loss_base": 0.1}])
def test_a_row_that_differs_in_the_last_bit_is_different(quiet, change) -> None:
    found = tally([replace(quiet[0], **change), *quiet[1:]], quiet)
    assert (found.different, found.compared, found.right) == (1, N, False)


def test_only_episodes_of_the_quiet_run_are_compared(quiet) -> None:
    changed = [*quiet[:-1], replace(quiet[-1], accuracy=0.1)]
    found = tally(changed, quiet[:4])
    assert (found.compared, found.different, found.right) == (2, 0, True)
    assert not tally(quiet, []).right, "nothing was compared"


def test_an_episode_that_was_given_up_is_failed_and_one_that_came_right_later_is_not(quiet, make_row) -> None:
    given_up = make_row(0, "logistic-regression", None, attempt=3)
    found = tally([given_up, *quiet[1:]], quiet)
    assert (found.failed, found.lost, found.done, found.right) == (1, 0, N - 1, False)
    assert tally([given_up, *quiet], quiet).right


def test_duplicates_between_parts_are_seen(tmp_path: Path, quiet) -> None:
    (tmp_path / "episodes").mkdir()
    for number, rows in enumerate([quiet, quiet[:2]]):
        (tmp_path / "episodes" / f"part-{number:06d}.parquet").write_bytes(encode_part(EPISODES, rows))
    rows = committed_rows(str(tmp_path))
    assert rows == [*quiet, *quiet[:2]]
    assert tally(rows, quiet).duplicated == 1


def test_memory_is_flat_unless_the_last_third_holds_more_than_the_first() -> None:
    noisy = [(float(second), 400 + 90 * (second % 10 == 0)) for second in range(300)]
    found = tally_memory(noisy, 2000)
    assert found.flat and abs(found.per_1000_episodes) < 5
    assert (found.first, found.last, found.peak, found.n_samples) == (490, 400, 490, 300)
    leak = [(second, mb + 0.2 * second) for second, mb in noisy]
    leaking = tally_memory(leak, 2000)
    assert leaking.last_third - leaking.first_third == pytest.approx(40) and FLAT_MB < 40 and not leaking.flat
    assert leaking.per_1000_episodes - found.per_1000_episodes == pytest.approx(0.2 * 299 / 2)


def test_a_soak_without_faults_shows_nothing() -> None:
    assert FaultTally(workers_killed=1, nodes_lost=1, nodes_regained=1).enough
    for faults in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        assert not FaultTally(
            **dict(zip(("workers_killed", "nodes_lost", "nodes_regained"), faults, strict=True))
        ).enough


def test_the_table_names_every_count(quiet) -> None:
    memory = tally_memory([(0.0, 300.0), (1.0, 310.0), (2.0, 320.0)], N)
    text = soak_table(
        tally(quiet[1:], quiet), memory, FaultTally(workers_killed=7, nodes_lost=2, nodes_regained=1), 2, 9
    )
    cells = dict(line.split(" │ ") for line in text.splitlines() if " │ " in line)
    values = {name.strip(): value.strip() for name, value in cells.items()}
    assert values["lost"] == "1" and values["done"] == "5" and values["nodes lost"] == "2"
    assert values["different from a quiet run"] == "0 of 6 compared"
    assert values[f"flat (at most {FLAT_MB:.0f} MB more)"] == "yes"
    assert values["episodes a second"] == "3.00 (quiet: 9.00)"
