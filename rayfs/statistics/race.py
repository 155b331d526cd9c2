"""Asynchronous successive halving with episodes as the resource: at which episodes losers stop, and by which cut.

L. Li, K. Jamieson, A. Rostamizadeh, E. Gonina, M. Hardt, B. Recht, A. Talwalkar, "A system for massively parallel
hyperparameter tuning", MLSys 2020. Ray Tune takes the decisions; this keeps the same books, to say why a trial stopped.
"""

from dataclasses import dataclass, field

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


@dataclass(kw_only=True)
class Rungs:
    """The gains that came by each rung, in the order in which they came."""

    race: Race
    gains: dict[int, dict[str, float]] = field(default_factory=dict)
    """Rung -> trial -> gain."""

    def pass_by(self, trial: str, episodes: int, gain: float) -> float | None:
        """Note that `trial` has `gain` after `episodes`; return the cut it was held against, None if there is none.

        The cut is the (1 - 1/reduction) quantile of the gains that were there before; the first trial meets none.
        """
        if episodes not in self.race.rungs:
            return None
        before = self.gains.setdefault(episodes, {})
        others = [value for name, value in before.items() if name != trial]
        before.setdefault(trial, gain)
        if not others:
            return None
        import numpy as np  # not above: command lines import this module and should answer at once

        return float(np.quantile(others, 1 - 1 / self.race.reduction))
