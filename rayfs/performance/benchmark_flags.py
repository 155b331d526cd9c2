"""Flags of the benchmark. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rayfs.errors import InputError

Measure = Literal["ratio", "scaling", "sweep", "startup", "driver", "memory", "profile"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Flags of `jobs/benchmark.py`."""

    measure: tuple[Measure, ...] = ("ratio",)
    """ratio: the engine against the naive recipe. scaling: 1, 2, ... workers of the engine. sweep: an episode's cost
    against ways, shots, steps and base images. startup: seconds to the first episode of the main job. driver: the
    driver's cost of an episode that does nothing. memory: what processes hold while synthetic base images are banked
    and sampled, on CPUs. profile: the operations that the engine's steps spend their time in."""
    benchmark: str = "omniglot"
    """omniglot, cifar-fs, fc100 or folder."""
    data: str | None = None
    """Folder of the images; without it $RAYFS_DATA/cifar100 for cifar-fs and fc100."""
    image_size: int | None = None
    """Pixels; default: the benchmark's own."""
    backbone: str = "conv4"
    """Names as in `jobs/pretrain.py --help`."""
    checkpoint: Path | None = None
    """Its weights; default: those of the package, or random weights, and then random features of the base images, which
    take as long."""
    n_way: int | None = None
    """Classes an episode; default by benchmark."""
    n_shot: int | None = None
    """Support images a class; default by benchmark."""
    steps: int | None = None
    """Of a whole episode; default: the released recipe."""
    rounds: int = 5
    """Rounds of the naive recipe and the engine in turn."""
    measured_steps: int = 10
    """Steps of each side in a round; a whole episode is composed from them."""
    measured_batches: int = 20
    """Batches of base images that the naive recipe labels in a round."""
    whole: bool = False
    """Run whole episodes instead."""
    compared_steps: int = 10
    """Steps that both sides take on the same batches, to compare losses and predictions; 0: none."""
    workers: int | None = None
    """Workers of the engine, one thread each; default: one for every core (or GPU)."""
    naive_threads: int | None = None
    """Threads of the naive recipe; default: one for every core."""
    naive_loaders: int = 2
    """Processes of each of its DataLoaders; 0: the main one loads, as in a run on one core."""
    naive_allocator: bool = False
    """Give the naive recipe the engine's memory allocator settings, too: the engine's own share of the ratio."""
    precisions: tuple[Literal["float32", "bf16"], ...] = ("float32", "bf16")
    """Of the engine; the naive recipe runs in float32."""
    execution: Literal["eager", "graph", "compiled", "compiled-graph"] = "eager"
    """How the engine's steps run, as in `jobs/label_halluc_eval.py`; graph needs --whole."""
    episodes: int = 10_000
    """Episodes of `driver`."""
    images: int = 448_695
    """Base images of `memory`; default: as many as tieredImageNet's base set has."""
    out: Path | None = None
    """Folder of the rows (Parquet) and the figure (SVG); default: printed only."""

    def __post_init__(self) -> None:
        for name in ("rounds", "measured_steps", "measured_batches", "episodes", "images"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected at least 1")
        for name in ("workers", "naive_threads", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is {value}; expected at least 1")
        for name in ("compared_steps", "naive_loaders"):
            if getattr(self, name) < 0:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected 0 or more")
        if "graph" in self.execution and (not self.whole or "sweep" in self.measure):
            raise InputError(
                f"--execution is {self.execution}: the first steps of an episode are not replayed, so that it cannot "
                "be composed from a few; add --whole, and leave out --measure sweep"
            )
        for name in ("measure", "precisions"):
            value = getattr(self, name)
            if not value or len(set(value)) < len(value):
                raise InputError(f"--{name} is '{' '.join(value)}'; expected at least one, each once")
