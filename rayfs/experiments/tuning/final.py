"""The winner of a search on test classes, once, beside the default recipe and the frozen baseline."""

from pathlib import Path

from rayfs.errors import InputError
from rayfs.experiments.episodes.job import build_experiment, describe, describe_results, open_run
from rayfs.experiments.episodes.run import Execution, evaluate
from rayfs.experiments.tuning.flags import TuneConfig
from rayfs.methods.registry import BASELINE
from rayfs.reports.comparison.table import paired_text
from rayfs.reports.episodes.build import write_report
from rayfs.runs.run_directory import RunDirectory
from rayfs.runs.search_state import SearchState, write_state
from rayfs.runs.storage import location_below
from rayfs.statistics.compared_run import read_run
from rayfs.statistics.comparison import Comparison, compare
from rayfs.statistics.pairing import pair
from rayfs.statistics.summary import HALF_POINT
from rayfs.statistics.trials import Trial

FINAL = "final"
"""Run directory below that of the search."""


def score_winner(
    config: TuneConfig, winner: Trial, run: RunDirectory, state: SearchState, cache_dir: Path, command: list[str]
) -> None:
    """Run winner, default and baseline on the same test episodes in OUT/final, and print table and comparison.

    The search's state says that test classes are used before the first of them is.

    Raises:
        InputError: they were used for another winner, or the winner has not run to the end.
    """
    if winner.state != "finished":
        raise InputError(
            f"the best trial, {winner.name}, has {winner.episodes} of {config.episodes} episodes: the search is not "
            "over, so there is no winner yet; rerun the command without --final first"
        )
    location = location_below(config.out, FINAL)
    methods = tuple(dict.fromkeys([BASELINE, config.method, winner.name]))
    evaluation = config.evaluation(methods=methods, split="test", episodes=config.final_episodes)
    experiment = build_experiment(evaluation, cache_dir)
    state.mark_final(winner.name, location, config.final_episodes)
    write_state(run, state)
    print(f"\nfinal, on test classes, of the winner {winner.name}\n{describe(experiment)}", flush=True)
    execution = Execution(**config.execution)
    with open_run(experiment, location, command) as final:
        summary = evaluate(experiment, final, execution, cache_dir=cache_dir, command=command)
        print(describe_results(experiment, summary))
        write_report(final, cache_dir)
    if winner.name in (config.method, BASELINE):
        print("the winner is the recipe's default: there is nothing to compare it with")
        return
    print("winner (A) against the recipe's default (B), on the same test episodes\n")
    print(paired_text([compared_with_default(location, winner=winner.name, default=config.method)], HALF_POINT))
    print(f"rows, summary.json, report.html: {location}")


def compared_with_default(location: str, *, winner: str, default: str) -> Comparison:
    """Return the winner (A) against the recipe's default (B) of the run at `location`, on the episodes of both.

    Raises:
        InputError: the run cannot be read, or the two have no finished episode in common.
    """
    final = read_run(location)
    pairing = pair(final.side(winner), final.side(default), common=True)
    return compare("winner − default", pairing, final.images or {}, HALF_POINT)
