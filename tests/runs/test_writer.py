"""Rows are committed after 64 rows or 5 seconds, whichever is first."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rayfs.runs.result_buffer import ResultBuffer
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import RowsNotSavedError, RunDirectory
from rayfs.runs.storage import Storage

MakeRow = Callable[..., Row]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    with RunDirectory(str(tmp_path)).open({}, {}, {}) as run:
        yield run


def n_parts(run: RunDirectory, tmp_path: Path) -> int:
    return len(list((tmp_path / "episodes").iterdir()))


def test_rows_wait_until_there_are_64(run: RunDirectory, tmp_path: Path, make_row: MakeRow) -> None:
    buffer = ResultBuffer(run, clock=Clock())
    for episode in range(63):
        buffer.add([make_row(episode)])
    assert (len(buffer.pending), n_parts(run, tmp_path)) == (63, 0)
    buffer.add([make_row(63)])
    assert (len(buffer.pending), n_parts(run, tmp_path), len(run.completed())) == (0, 1, 64)


def test_the_oldest_row_waits_at_most_5_seconds(run: RunDirectory, make_row: MakeRow) -> None:
    clock = Clock()
    buffer = ResultBuffer(run, clock=clock)
    buffer.add([make_row(0)])
    clock.now += 3
    buffer.add([make_row(1)])
    clock.now += 1.9
    buffer.poll()
    assert len(buffer.pending) == 2
    clock.now += 0.1
    buffer.poll()
    assert len(buffer.pending) == 0
    clock.now += 60
    buffer.add([make_row(2)])
    assert len(buffer.pending) == 1, "the wait starts with the first row after a commit"


def test_flush_commits_at_once_and_flushing_nothing_writes_nothing(
    run: RunDirectory, tmp_path: Path, make_row: MakeRow
) -> None:
    buffer = ResultBuffer(run, clock=Clock())
    buffer.flush()
    assert n_parts(run, tmp_path) == 0
    buffer.add([make_row()])
    buffer.flush()
    assert run.completed() == {(0, "logistic-regression")}


def test_rows_survive_a_failed_commit_until_there_is_room(
    run: RunDirectory, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = ResultBuffer(run, flush_rows=2, clock=Clock())

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", full)
        with pytest.raises(RowsNotSavedError, match="2 rows are not saved"):
            buffer.add([make_row(0), make_row(1)])
    assert run.completed() == set()
    buffer.flush()
    assert run.completed() == {(0, "logistic-regression"), (1, "logistic-regression")}
