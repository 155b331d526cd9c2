"""The best trials of a search as a table."""

from collections.abc import Sequence

from rayfs.reports.result_table import ResultTable
from rayfs.reports.table_exports import text_table
from rayfs.reports.text_table import NONE, plus_minus
from rayfs.reports.tuning.default import against_default
from rayfs.statistics.trials import Trial, choose_winner, stopped_at

SHOWN = 10


def trials_table(trials: Sequence[Trial], baseline: str) -> str:
    """Return the best trials as text, one a line, and how many were stopped where."""
    counts = stopped_at(trials)
    stops = ", ".join(f"{n} after {episodes}" for episodes, n in counts.items()) or "none"
    n_states = {state: sum(trial.state == state for trial in trials) for state in ("finished", "failed", "unfinished")}
    others = "".join(f", {n} {state}" for state, n in n_states.items() if n)
    notes = [
        f"{len(trials)} trials: stopped early {stops} episodes{others}.",
        f"The gain of {choose_winner(trials).name} is that of the best of {len(trials)} on the episodes it was chosen "
        "on: expect less elsewhere.",
        *filter(None, [against_default(trials)]),
    ]
    return text_table(best_trials(trials, baseline).noted(*notes))


def best_trials(trials: Sequence[Trial], baseline: str) -> ResultTable:
    """Return the table of the best trials: a column for each setting that was searched."""
    fields = list(trials[0].settings) if trials else []
    heading = [
        "", *(name.replace("_", "-") for name in fields), "episodes", f"gain vs {baseline}\n± 95% CI",
        "s per\nepisode", "state",
    ]  # fmt: skip
    lines = [
        [
            f"{place}{' default' if trial.is_default else ''}",
            *(_value(trial.settings[name]) for name in fields), str(trial.episodes),
            plus_minus(trial.gain, trial.half_width, sign="+"),
            NONE if trial.seconds is None else f"{trial.seconds:.2f}", trial.state,
        ]
        for place, trial in enumerate(trials[:SHOWN], 1)
    ]  # fmt: skip
    return ResultTable(heading=heading, lines=lines, n_texts=1)


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
