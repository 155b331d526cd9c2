"""Progress of long work: the line by hand, and when it is printed."""

from rayfs.engine.progress import WorkProgress


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
