"""Which trials Ray Tune runs. Import it behind `ray_session`: Ray reads its environment when it is imported."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from rayfs.methods.search_spaces import rounded
from rayfs.methods.spaces import Choice, Space


class Proposals(Searcher):  # type: ignore[misc]  # Ray has no types
    """Settings that were listed beforehand, then those of another searcher.

    Arguments:
        then: proposes `n_then` more, and learns from those that were listed.
    """

    def __init__(self, listed: Sequence[dict[str, Any]], then: Searcher | None = None, n_then: int = 0) -> None:
        super().__init__(metric="gain", mode="max")
        self._listed, self._then, self._n_then = deque(listed), then, n_then
        self._passed_on: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next settings, or that there are none."""
        if self._listed:
            return self._listed.popleft()
        if self._then is None or self._n_then < 1:
            return str(self.FINISHED)
        settings = self._then.suggest(trial_id)
        if isinstance(settings, dict):
            self._n_then -= 1
            self._passed_on.add(trial_id)
            return rounded(settings)
        return None if settings is None else str(settings)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the other searcher how its proposal came out."""
        if self._then is not None and trial_id in self._passed_on:
            self._then.on_trial_complete(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a search resumes from its rows."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


def optuna_searcher(spaces: Mapping[str, Space], seed: int, scored: Sequence[tuple[Mapping[str, Any], float]]) -> Any:
    """Return Optuna's proposals (tree-structured Parzen estimator), which are to raise the gain.

    Arguments:
        scored: settings and gains that it learns from.
    """
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: _distribution(space) for name, space in spaces.items()}
    sampler = optuna.samplers.TPESampler(seed=seed)
    search = OptunaSearch(space=distributions, metric="gain", mode="max", sampler=sampler)
    for settings, gain in scored:
        search.add_evaluated_point(dict(settings), gain)
    return search


def _distribution(space: Space) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(space, Choice):
        return CategoricalDistribution(space.values)
    if space.integer:
        return IntDistribution(int(space.low), int(space.high), log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)
