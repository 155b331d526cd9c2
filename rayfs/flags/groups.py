"""Groups of flags that jobs share. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rayfs.errors import InputError
from rayfs.flags.flag import Shown
from rayfs.value_checks import refuse_below

Split = Literal["validation", "test"]


@dataclass(frozen=True, kw_only=True)
class DataFlags:
    """Which images."""

    benchmark: str = "omniglot"
    """omniglot, omniglot-one-shot (both in the package), cifar-fs, fc100, or folder (your own images)."""
    folder: Annotated[str | None, Shown(flag="data", value="DIR")] = None
    """Folder of the images; default for cifar-fs and fc100: $RAYFS_DATA/cifar100. That of `folder` holds train/, val/
    and test/."""
    image_size: int | None = None
    """Pixels; default: the benchmark's own (28 omniglot, 32 CIFAR, 84 folder)."""


@dataclass(frozen=True, kw_only=True)
class ProtocolFlags:
    """Which episodes; None means the benchmark's default."""

    split: Split = "test"
    """Classes the episodes come from: validation to choose anything, test to report."""
    n_way: int | None = None
    """Classes an episode; default: 10 omniglot, 20 omniglot-one-shot, else 5."""
    n_shot: int | None = None
    """Support images a class; default: 1 omniglot, else 5."""
    n_query: int | None = None
    """Query images a class; default: 1 omniglot-one-shot, else 15."""
    seed: int = 0
    """Root seed of the episodes and of all randomness in them."""

    def __post_init__(self) -> None:
        refuse_below(self, 0, "seed")


@dataclass(frozen=True, kw_only=True)
class BackboneFlags:
    """Which network."""

    name: Annotated[str, Shown(flag="backbone")] = "conv4"
    """Network of the checkpoint; names: jobs/pretrain.py --help."""
    checkpoint: Annotated[Path | None, Shown(value="FILE")] = None
    """Weights of the backbone (.safetensors, .pth), or their name in the package; default: those of the package that
    fit and are best on validation classes."""


@dataclass(frozen=True, kw_only=True)
class WorkerFlags:
    """Where episodes run."""

    n_workers: Annotated[int | None, Shown(flag="workers")] = None
    """Actors; default: as many as the GPUs, else the CPUs, allow."""
    gpus_per_worker: float | None = None
    """GPUs an actor, or a fraction; default: 1 where the cluster has GPUs, else 0."""
    cpus_per_worker: int = 1
    """CPU cores, and threads, an actor."""
    wait_for_nodes: Annotated[float | None, Shown(value="S")] = None
    """Seconds to wait for nodes that have still to join where the workers do not fit yet; autoscalers see what is
    missing. Default: 600 on a cluster without any CPU and GPU, else 0: refuse at once."""
    episode_timeout: Annotated[float | None, Shown(value="S")] = None
    """Seconds after which an episode (all its methods) counts as hung: its worker is killed, and it is tried again.
    Default: 20 times the longest so far, at least 600."""

    def __post_init__(self) -> None:
        if self.n_workers is not None and self.n_workers < 1:
            raise InputError(f"--workers is {self.n_workers}; expected at least 1")
        refuse_below(self, 1, "cpus_per_worker")
        refuse_below(self, 0, "gpus_per_worker")
        refuse_waiting(self.wait_for_nodes)
        if self.episode_timeout is not None and not self.episode_timeout > 0:
            raise InputError(f"--episode-timeout is {self.episode_timeout}; expected seconds above 0")


@dataclass(frozen=True, kw_only=True)
class DeviceFlags:
    """Where one process computes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where features are computed; auto: a GPU where torch finds one."""
    threads: int = 1
    """CPU threads of what is done with the features."""

    def __post_init__(self) -> None:
        refuse_below(self, 1, "threads")


def refuse_waiting(wait_for_nodes: float | None) -> None:
    """Refuse a wait that is no number of seconds; None passes.

    Raises:
        InputError: it is negative, not finite, or not a number.
    """
    if wait_for_nodes is not None and not 0 <= wait_for_nodes < math.inf:
        raise InputError(f"--wait-for-nodes is {wait_for_nodes}; expected seconds, 0 or more")
