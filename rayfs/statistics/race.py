"""The gains in a race of trials (`rayfs.runs.race`). Ray Tune decides who stops; these books say why."""

from dataclasses import dataclass, field

import numpy as np

from rayfs.runs.race import Race


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
        return float(np.quantile(others, 1 - 1 / self.race.reduction)) if others else None
