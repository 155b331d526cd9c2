"""Flags of `jobs/compare.py`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rayfs.errors import InputError
from rayfs.flags.flag import Shown


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Flags of `jobs/compare.py`."""

    runs: Annotated[tuple[str, ...], Shown(positional=True, value="A [B]", title="Runs")]
    """One or two run directories (those with a manifest.json), each a local path or a URI such as s3://bucket/run."""
    methods: Annotated[tuple[str, ...], Shown(title="What is compared")] = ()
    """X Y: X of A against Y of B (or of A, where there is no B). X alone: X of both runs, or X against the baseline.
    Default: every method that both runs have, or every method of the one run against its baseline."""
    common: bool = False
    """Where the episodes of both differ, compare those that both have, instead of refusing."""
    force_unpaired: bool = False
    """Compare different episodes, also of different images or protocols, by Welch's t interval. Unpaired: the luck of
    the draw is in the difference."""
    target: float = 0.5
    """Percentage points: how many episodes would give the paired difference ± this?"""
    json: Annotated[Path | None, Shown(value="FILE", title="Output")] = None
    """File to write the figures to, unrounded; default: none."""
    figure: Annotated[Path | None, Shown(value="FILE")] = None
    """SVG file to draw to: accuracies as pairs, and the histogram of their differences; default: none."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.runs) <= 2:
            raise InputError(f"{len(self.runs)} runs were given: '{' '.join(self.runs)}'; expected one or two")
        if len(self.methods) > 2:
            raise InputError(
                f"--methods is '{' '.join(self.methods)}'; expected one or two names, and the runs before the flag"
            )
        if len(self.runs) == 1 and len(self.methods) == 2 and self.methods[0] == self.methods[1]:
            raise InputError(f"--methods is '{' '.join(self.methods)}': of one run, two methods must be two")
        if not 0 < self.target < float("inf"):
            raise InputError(f"--target is {self.target}; expected a positive number of percentage points")
        if self.common and self.force_unpaired:
            raise InputError("--common pairs episodes and --force-unpaired does not; pass one of the two")
        if self.figure is not None and self.force_unpaired:
            raise InputError("--figure draws pairs of accuracies and --force-unpaired has none; leave one out")
        if self.figure is not None and self.figure.suffix != ".svg":
            raise InputError(f"--figure is '{self.figure}'; expected a name that ends in .svg")
