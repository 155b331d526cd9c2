"""Flags of the benchmark. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rayfs.errors import InputError
from rayfs.flags.flag import Shown, group
from rayfs.flags.groups import BackboneFlags, DataFlags
from rayfs.value_checks import refuse_below

Measure = Literal["ratio", "scaling", "sweep", "startup", "driver", "memory", "profile"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Flags of `jobs/benchmark.py`."""

    measure: Annotated[tuple[Measure, ...], Shown(value="MEASURE ...", title="What is measured")] = ("ratio",)
    """ratio: the engine against the naive recipe. scaling: 1, 2, ... workers of the engine. sweep: an episode's cost
    against ways, shots, steps and base images. startup: seconds to the first episode of the main job. driver: the
    driver's cost of an episode that does nothing. memory: what processes hold while synthetic base images are banked
    and sampled, on CPUs. profile: the operations that the engine's steps spend their time in."""
    data: DataFlags = group(
        DataFlags(), "Images",
        benchmark="omniglot, cifar-fs, fc100 or folder.",
        data="Folder of the images; default for cifar-fs and fc100: $RAYFS_DATA/cifar100.",
        image_size="Pixels; default: the benchmark's own.",
    )  # fmt: skip
    backbone: BackboneFlags = group(
        BackboneFlags(), "Backbone",
        checkpoint="Weights of the backbone; default: those of the package, or random weights, and then random "
        "features of the base images, which take as long.",
    )  # fmt: skip
    n_way: Annotated[int | None, Shown(title="Episodes")] = None
    """Classes an episode; default: the benchmark's."""
    n_shot: int | None = None
    """Support images a class; default: the benchmark's."""
    steps: int | None = None
    """Of a whole episode; default: the released recipe."""
    rounds: Annotated[int, Shown(title="Rounds")] = 5
    """Rounds of the naive recipe and the engine in turn."""
    measured_steps: int = 10
    """Steps of each side in a round; a whole episode is composed from them."""
    measured_batches: int = 20
    """Batches of base images that the naive recipe labels in a round."""
    whole: bool = False
    """Run whole episodes instead."""
    compared_steps: int = 10
    """Steps that both sides take on the same batches, to compare losses and predictions; 0: none."""
    workers: Annotated[int | None, Shown(title="The two sides")] = None
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
    """How the engine's steps run, as in jobs/label_halluc_eval.py; graph needs --whole."""
    episodes: Annotated[int, Shown(title="Sizes of single measures")] = 10_000
    """Episodes of driver."""
    images: int = 448_695
    """Base images of memory; tieredImageNet's base set has so many."""
    out: Annotated[Path | None, Shown(value="DIR", title="Output")] = None
    """Folder of the rows (Parquet) and the figure (SVG); default: printed only."""

    def __post_init__(self) -> None:
        refuse_below(self, 1, "rounds", "measured_steps", "measured_batches", "episodes", "images")
        refuse_below(self, 1, "workers", "naive_threads", "steps")
        refuse_below(self, 0, "compared_steps", "naive_loaders")
        if "graph" in self.execution and (not self.whole or "sweep" in self.measure):
            raise InputError(
                f"--execution is {self.execution}: the first steps of an episode are not replayed, so that it cannot "
                "be composed from a few; add --whole, and leave out --measure sweep"
            )
        for name in ("measure", "precisions"):
            value = getattr(self, name)
            if not value or len(set(value)) < len(value):
                raise InputError(f"--{name} is '{' '.join(value)}'; expected at least one, each once")
