"""Progress of long work: the line by hand, and when it is printed."""

import io

from rayfs.engine.progress import Display, WorkProgress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_line_tells_done_rate_and_time_left():
    clock = Clock()
    progress = WorkProgress("training", "steps", 2_000, clock)
    clock.now += 8
    progress.add(1_000)
    assert progress.line() == "training: 1,000/2,000 steps | 125.0 steps/s | ETA 0m08s"
    clock.now += 92
    assert progress.line() == "training: 1,000/2,000 steps | 10.0 steps/s | ETA 1m40s"


def test_line_before_any_work_has_no_rate():
    assert WorkProgress("training", "steps", 5, Clock()).line() == "training: 0/5 steps | 0.0 steps/s | ETA 0m00s"


def test_line_is_printed_every_ten_seconds(capsys):
    clock = Clock()
    progress = WorkProgress("training", "steps", 100, clock)
    printed = []
    for _ in range(25):
        clock.now += 1
        progress.add()
        printed.append(capsys.readouterr().out)
    assert [second for second, text in enumerate(printed, start=1) if text] == [10, 20]
    assert printed[9] == "training: 10/100 steps | 1.0 steps/s | ETA 1m30s\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_that_stays_wipes_the_table_which_comes_again_below_it():
    stream = Terminal()
    display = Display(stream, Clock())
    display.show("line 1", lambda: "table\nbody")
    display.say("stays")
    display.show("line 2", lambda: "table\nbody")
    assert stream.getvalue() == "table\nbody\nline 1\n\x1b[3A\x1b[Jstays\ntable\nbody\nline 2\n"


def test_a_log_gets_the_line_without_the_table_and_waits_for_the_first():
    clock, stream = Clock(), io.StringIO()
    display, at_once = (Display(stream, clock, line_s=30.0, at_once=at_once) for at_once in (False, True))
    assert not display.is_due and at_once.is_due
    clock.now += 29
    assert not display.is_due
    clock.now += 1
    assert display.is_due
    display.show("line", lambda: "table")
    assert stream.getvalue() == "line\n" and not display.is_due


def test_what_was_done_before_counts_but_not_for_the_rate():
    clock, printed = Clock(), []
    progress = WorkProgress("training", "steps", 100, clock, done=90, say=printed.append)
    clock.now += 10
    progress.add(5)
    assert printed == [progress.line()] == ["training: 95/100 steps | 0.5 steps/s | ETA 0m10s"]


def test_the_end_is_not_printed_twice(capsys):
    """The caller prints the last line, with its result."""
    clock = Clock()
    progress = WorkProgress("training", "steps", 5, clock)
    clock.now += 60
    progress.add(5)
    assert capsys.readouterr().out == ""
