"""Where the seconds of an episode go: named stages, timed when somebody asks and free when nobody does."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

STAGES = ("sampling", "support", "pseudo-labels", "augmentation", "forward", "backward", "optimiser", "query")
"""Images and a copy of the network, features and classifier of the support set, labels of base images; of each step the
views, the losses, the gradients and the update; logits of the queries."""

REPLAY = "replay"
"""Takes the place of the four stages of a step where a GPU replays it whole."""

PROFILED = "stage: "
"""Begins the name of a stage in a profile."""

STEP_STAGES = (*STAGES[3:7], REPLAY)
"""Those that every step pays for."""


class StageClock:
    """Adds up wall and processor seconds by stage.

    Arguments:
        device: a GPU is waited for at both ends of a stage, so that stages there sum to more than an episode takes.
        cpu_s: processor seconds used so far; those of this process, all threads, by default.
    """

    def __init__(self, device: torch.device, cpu_s: Callable[[], float] = time.process_time) -> None:
        self.wall_s: dict[str, float] = defaultdict(float)
        self.cpu_s: dict[str, float] = defaultdict(float)
        self._device, self._read_cpu_s = device, cpu_s

    def now(self) -> tuple[float, float]:
        """Return wall and processor seconds, after all that the device was told to do."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter(), self._read_cpu_s()

    def add(self, name: str, since: tuple[float, float], wall: bool = True) -> None:
        """Count what passed since `now()` for stage `name`, the wall seconds only if `wall`."""
        wall_s, cpu_s = self.now()
        self.wall_s[name] += (wall_s - since[0]) * wall
        self.cpu_s[name] += cpu_s - since[1]


_clock: ContextVar[StageClock | None] = ContextVar("stage clock", default=None)


@contextmanager
def timed_by(clock: StageClock | None) -> Iterator[None]:
    """Let `clock` time the stages inside the block; None: nobody."""
    token = _clock.set(clock)
    try:
        yield
    finally:
        _clock.reset(token)


@contextmanager
def stage(name: str, wall: bool = True) -> Iterator[None]:
    """Count the block, which contains no other stage, for stage `name` of whichever clock there is.

    Arguments:
        wall: count its wall seconds, too, and not only those of processors.
    """
    clock = _clock.get()
    if clock is None:
        yield
        return
    since = clock.now()
    with torch.profiler.record_function(PROFILED + name):
        yield
        clock.add(name, since, wall)  # waits for the GPU, so that a profile has its kernels inside
