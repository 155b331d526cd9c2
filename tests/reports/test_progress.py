"""The progress line, with a fake clock and a fake terminal."""

import io
from collections.abc import Callable

import pytest

from rayfs.engine.progress import duration
from rayfs.reports.progress import Progress
from rayfs.runs.rows import Row

MakeRow = Callable[..., Row]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make(
    stream: io.StringIO, clock: Clock, total: int | None = 30, done: int = 0, baseline: str | None = "lr"
) -> Progress:
    return Progress(total, done, "ours", stream, clock, baseline=baseline)


def test_the_line_shows_mean_gain_rate_and_time_left(make_row: MakeRow) -> None:
    clock = Clock()
    progress = make(io.StringIO(), clock)
    assert progress.line() == "done 0/30 | - ep/s | ETA - | failed 0"
    for episode, (ours, lr) in enumerate([(0.90, 0.80), (0.80, 0.80), (0.70, 0.75)]):
        clock.now += 2
        progress.update([make_row(episode, "lr", lr), make_row(episode, "ours", ours)])
    # 90, 80, 70: 80 ± 4.3027 * 10 / sqrt(3); gains 10, 0, -5: mean 1.67, std 7.638
    assert progress.line() == "done 3/30 | ours 80.0 ± 24.8 | gain vs lr +1.7 ± 19.0 | 0.50 ep/s | ETA 54s | failed 0"


def test_episodes_that_finish_together_are_shown_once_all_are_counted(make_row: MakeRow) -> None:
    clock, stream = Clock(), io.StringIO()
    progress = make(stream, clock, baseline=None)
    clock.now += 2
    progress.update_all([make_row(episode, "ours", 0.5)] for episode in range(10))
    assert stream.getvalue() == "done 10/30 | ours 50.0 ± 0.0 | 5.00 ep/s | ETA 4s | failed 0\n"


def test_resumed_rows_feed_the_mean_but_not_the_rate(make_row: MakeRow) -> None:
    clock = Clock()
    progress = make(io.StringIO(), clock, done=2)
    progress.resume([make_row(i, m, 0.5) for i in range(2) for m in ("lr", "ours")] + [make_row(5, "ours", None)])
    assert progress.line() == "done 2/30 | ours 50.0 ± 0.0 | gain vs lr +0.0 ± 0.0 | - ep/s | ETA - | failed 0"
    clock.now += 10
    progress.update([make_row(2, "ours", 0.5), make_row(2, "lr", 0.5)])
    assert "done 3/30 | ours 50.0 ± 0.0 |" in progress.line()
    assert "| 0.10 ep/s | ETA 4m30s |" in progress.line()


def test_a_failed_episode_counts_once_and_stays_out_of_the_means(make_row: MakeRow) -> None:
    clock = Clock()
    progress = make(io.StringIO(), clock)
    clock.now += 1
    progress.update([make_row(0, "ours", None), make_row(0, "lr", None)])
    progress.update([make_row(1, "ours", 0.9), make_row(1, "lr", None)])
    assert progress.line() == "done 2/30 | ours 90.0 | 2.00 ep/s | ETA 14s | failed 2"


def test_without_a_total_or_a_baseline_their_fields_are_left_out(make_row: MakeRow) -> None:
    clock = Clock()
    progress = make(io.StringIO(), clock, total=None, baseline=None)
    clock.now += 1
    progress.update([make_row(0, "ours", 0.9), make_row(0, "lr", 0.8)])
    assert progress.line() == "done 1 | ours 90.0 | 1.00 ep/s | failed 0"


def test_a_log_gets_a_line_every_10_seconds_and_the_last(make_row: MakeRow) -> None:
    clock, stream = Clock(), io.StringIO()
    progress = make(stream, clock)
    for episode in range(30):
        clock.now += 1
        progress.update([make_row(episode, "ours")])
    progress.finish()
    lines = stream.getvalue().splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["done 1/30", "done 11/30", "done 21/30", "done 30/30"]
    assert "\r" not in stream.getvalue()


def test_the_last_line_of_a_log_is_not_repeated(make_row: MakeRow) -> None:
    clock, stream = Clock(), io.StringIO()
    progress = make(stream, clock, total=1)
    clock.now += 1
    progress.update([make_row(0, "ours")])
    progress.finish()
    assert stream.getvalue() == "done 1/1 | ours 80.0 | 1.00 ep/s | ETA 0s | failed 0\n"


def test_a_terminal_is_repainted_at_most_5_times_a_second(make_row: MakeRow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    clock, stream = Clock(), Terminal()
    progress = make(stream, clock, total=64)
    for episode in range(64):
        clock.now += 0.0625
        progress.update([make_row(episode, "ours")])
    progress.finish()
    text = stream.getvalue()
    assert 16 <= text.count("\r") <= 5 * 4 + 1
    assert text.count("\n") == 1 and text.endswith("\n")
    assert text.split("\r")[-1].startswith("done 64/64")


def test_a_shorter_line_covers_the_longer_one_and_a_narrow_terminal_does_not_wrap(
    make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    clock, stream = Clock(), Terminal()
    progress = make(stream, clock)
    progress.update([make_row(0, "ours")])
    before = len(stream.getvalue())
    monkeypatch.setenv("COLUMNS", "20")
    clock.now += 1
    progress.update([make_row(1, "ours")])
    last = stream.getvalue().split("\r")[-1]
    assert len(last) == before - 1
    assert len(last.rstrip()) <= 19


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (12.4, "12s"), (62, "1m02s"), (59.6, "1m00s"), (3 * 3600 + 5 * 60 + 9, "3h05m"), (187200, "2d04h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
