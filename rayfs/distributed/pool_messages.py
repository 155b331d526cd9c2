"""What the scheduler of episodes is told (events) and what it answers (commands). Workers are numbers."""

from dataclasses import dataclass

from rayfs.datasets.episodes import Episode
from rayfs.runs.rows import Row


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """One episode and the methods that still have to solve it."""

    episode: Episode
    methods: tuple[str, ...]
    attempt: int = 1


@dataclass(frozen=True)
class WorkerReady:
    """A worker has loaded the world."""

    worker: int


@dataclass(frozen=True, kw_only=True)
class LoadFailed:
    """The code of a worker raised while it loaded the world."""

    worker: int
    error: Exception
    """What ends the run if another attempt cannot help."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class WorkerDied:
    """A worker was lost while it loaded the world, or with its episode."""

    worker: int
    said: str
    """What Ray says of it."""
    memory: str = ""
    """What Ray's memory monitor says, if it killed the worker."""
    for_good: bool = False
    """It will never be restarted."""
    restarting: bool = False
    """It has no process yet: it waits for room, as after the loss of its node."""


@dataclass(frozen=True)
class EpisodeFinished:
    """A worker has come back with the rows of its episode."""

    worker: int
    rows: list[Row]


@dataclass(frozen=True)
class EpisodeRaised:
    """The code of a worker raised outside the methods."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Capacity:
    """The answer to `AskCapacity`: how many workers fit the cluster now."""

    n_workers: int


Event = WorkerReady | LoadFailed | WorkerDied | EpisodeFinished | EpisodeRaised | Capacity


@dataclass(frozen=True)
class StartWorker:
    """Make a worker of this number; none has had it before."""

    worker: int


@dataclass(frozen=True)
class PrepareWorker:
    """Let a worker load the world, or find that it has it."""

    worker: int


@dataclass(frozen=True)
class RunItem:
    """Let a worker solve an episode."""

    worker: int
    item: WorkItem


@dataclass(frozen=True)
class KillWorker:
    """End the process of a worker, which is restarted; not if its episode has come back by now."""

    worker: int


@dataclass(frozen=True)
class DeliverRows:
    """Pass on final rows of an episode."""

    rows: list[Row]
    episode_done: bool
    """False: a method of the episode is tried again."""


@dataclass(frozen=True)
class Say:
    """Print a line."""

    line: str


@dataclass(frozen=True)
class SayWaiting:
    """Print that none of the workers is ready, and what room the cluster has."""

    n_workers: int


@dataclass(frozen=True)
class AskCapacity:
    """Tell how many workers fit the cluster now."""


@dataclass(frozen=True)
class GiveUp:
    """End the run with an error."""

    error: Exception


Command = StartWorker | PrepareWorker | RunItem | KillWorker | DeliverRows | Say | SayWaiting | AskCapacity | GiveUp
