"""Flags of `jobs/soak.py`. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rayfs.errors import InputError
from rayfs.flags.flag import Shown
from rayfs.value_checks import refuse_below


@dataclass(frozen=True, kw_only=True)
class SoakConfig:
    """Flags of `jobs/soak.py`."""

    episodes: Annotated[int, Shown(title="Episodes")] = 2000
    """Short episodes of the main job: real images of omniglot, logistic-regression and label-halluc, 3 steps."""
    reference_episodes: int | None = None
    """The quiet run has so many of them; default: all."""
    kill_every: Annotated[float, Shown(value="S", title="Faults")] = 4.0
    """Seconds between two kills of a worker, on average; each is drawn between half and one and a half times that.
    Longer where the machine is slow: 40 episodes lie between two faults."""
    node_every: Annotated[float, Shown(value="S")] = 30.0
    """Seconds between two losses of a node, on average; it comes back half as much later."""
    nodes: int = 2
    """Nodes of one CPU beside the head of two; these are lost."""
    seed: int = 0
    """Of which worker and node dies, and when. What that meets depends on the machine's speed."""
    out: Annotated[Path, Shown(value="DIR", title="Output")]
    """New folder: reference/ and soak/ (run directories), their logs, soak.json (tally, faults, memory)."""

    def __post_init__(self) -> None:
        refuse_below(self, 1, "episodes", "nodes")
        for name in ("kill_every", "node_every"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected seconds above 0")
        refuse_below(self, 0, "seed")
        if not 1 <= self.n_reference <= self.episodes:
            raise InputError(f"--reference-episodes is {self.n_reference}; expected 1 to {self.episodes} (--episodes)")
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise InputError(f"--out is '{self.out}', which is there already; a soak starts afresh: name a new folder")

    @property
    def n_reference(self) -> int:
        """Episodes of the quiet run."""
        return self.episodes if self.reference_episodes is None else self.reference_episodes
