"""Which trials a search proposes: listed beforehand (random, grid), or by Optuna from trials that ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from rayfs.errors import InputError
from rayfs.experiments.tuning.flags import TuneConfig
from rayfs.methods.definition import MethodSettings
from rayfs.methods.search_spaces import grid_settings, random_settings
from rayfs.methods.spaces import Choice, Space
from rayfs.statistics.trials import Trial


@dataclass(frozen=True, kw_only=True)
class ListedTrials:
    """What a command proposes."""

    config: TuneConfig
    proposed: dict[str, MethodSettings]
    """Trial -> its configuration, in order, each once; the first is the recipe's default."""

    @property
    def resumes_former(self) -> bool:
        """Whether trials that are in the run but not listed are proposals of the same search."""
        return self.config.search == "optuna"

    def n_more(self, n_former: int) -> int:
        """Return how many trials Optuna proposes beside `n_former` that it proposed before."""
        return max(0, self.config.n_trials - n_former) if self.config.search == "optuna" else 0

    def described(self) -> str:
        """Return what is searched, in two lines."""
        config, race = self.config, self.config.race
        spaces = ", ".join(f"{name.replace('_', '-')} {described_space(s)}" for name, s in config.spaces.items())
        n = config.n_trials if config.search == "optuna" else len(self.proposed) - 1
        stops = f"losers may stop after {', '.join(map(str, race.rungs))}" if race.rungs else "no trial stops early"
        return (
            f"search ({config.search}, seed {config.protocol.seed}): {spaces}\n"
            f"the default and {n} trials of up to {race.episodes} episodes, the same for all; {stops} (reduction "
            f"{race.reduction}); a report every {race.block}"
        )


def described_space(space: Space) -> str:
    """Return "0.01 to 1 (log)" or "constant, linear"."""
    if isinstance(space, Choice):
        return "{" + ", ".join(map(str, space.values)) + "}"
    return f"{space.low:g} to {space.high:g}{' (log)' if space.log else ''}"


def list_trials(config: TuneConfig) -> ListedTrials:
    """Return the trials that can be listed before the search.

    Raises:
        InputError: an impossible setting, a grid of more points than trials, or Optuna is not installed.
    """
    if config.search == "optuna":
        if find_spec("optuna") is None:
            raise InputError("--search optuna needs Optuna: pip install 'rayfs[optuna]', or use --search random")
        settings: list[dict[str, Any]] = []
    elif config.search == "grid":
        settings = grid_settings(config.spaces, config.grid_points)
        if len(settings) > config.n_trials:
            raise InputError(
                f"the grid has {len(settings)} points but --n-trials is {config.n_trials}; raise it to {len(settings)}"
                ", lower --grid-points, or search fewer settings with --tune"
            )
    else:
        settings = [random_settings(config.spaces, config.protocol.seed, trial) for trial in range(config.n_trials)]
    return ListedTrials(config=config, proposed=dict(config.variants.of(each) for each in [{}, *settings]))


def searcher(
    config: TuneConfig, plan: ListedTrials, trials: Sequence[Trial], n_former: int
) -> Callable[[list[dict[str, Any]]], Any]:
    """Return what makes the searcher out of the listed settings; call it inside `ray_session`.

    Arguments:
        trials: former ones, which Optuna learns from.
    """
    from rayfs.distributed.searchers import Proposals, optuna_searcher

    if config.search != "optuna":
        return Proposals
    scored = [
        (trial.settings, trial.gain)
        for trial in trials
        if trial.gain is not None and trial.state in ("finished", "stopped") and _inside(trial, config)
    ]
    optuna = optuna_searcher(config.spaces, (config.protocol.seed * 1_000_003 + len(scored)) % 2**32, scored)
    return lambda listed: Proposals(listed, optuna, plan.n_more(n_former))


def _inside(trial: Trial, config: TuneConfig) -> bool:
    for name, space in config.spaces.items():
        value = trial.settings[name]
        if not (value in space.values if isinstance(space, Choice) else space.low <= value <= space.high):
            return False
    return True
