"""Successive halving with episodes as the resource (ASHA): when a trial of a search may be stopped, and why one was.

L. Li, K. Jamieson, A. Rostamizadeh, E. Gonina, M. Hardt, B. Recht, A. Talwalkar, "A system for massively parallel
hyperparameter tuning", MLSys 2020.
"""

from dataclasses import dataclass

from rayfs.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Race:
    """How many episodes a trial runs, and when it may be stopped."""

    episodes: int
    """Most of a trial."""
    grace: int
    """A trial runs so many before it may be stopped."""
    reduction: int = 3
    """At each rung the best 1/reduction of the trials that came by so far go on."""
    block: int
    """Episodes between two reports."""
    stopping: bool = True
    """False: every trial runs all its episodes."""

    def __post_init__(self) -> None:
        if self.block < 1 or self.grace < 2 or self.reduction < 2 or self.episodes < self.grace:
            raise InputError(
                f"--block is {self.block}, --grace {self.grace}, --reduction {self.reduction}, --episodes "
                f"{self.episodes}; expected 1 or more, 2 or more, 2 or more, and at least as many episodes as --grace"
            )

    @property
    def rungs(self) -> list[int]:
        """Episodes after which a trial may be stopped: grace, grace · reduction, ... below `episodes`."""
        rungs = []
        rung = self.grace
        while self.stopping and rung < self.episodes:
            rungs.append(rung)
            rung *= self.reduction
        return rungs

    @property
    def block_ends(self) -> list[int]:
        """Episodes after which a trial reports: every `block`, at each rung, and at the end."""
        return sorted({*range(self.block, self.episodes, self.block), *self.rungs, self.episodes})


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Why a trial was stopped."""

    episodes: int
    gain: float
    """Points, after so many episodes."""
    cut: float
    """What it had to reach there."""
