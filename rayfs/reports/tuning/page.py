"""tune.html: what a search found, in one file that needs no network. Every text from outside is escaped."""

from collections.abc import Mapping, Sequence
from typing import Any

from rayfs.reports.document import Block, Code, Facts, Figure, Folded, Grid, Note, Report, Section, Table
from rayfs.reports.episodes.head import run_title, versions
from rayfs.reports.render import render
from rayfs.reports.result_table import ResultTable
from rayfs.reports.text_table import plus_minus
from rayfs.reports.tuning.default import against_default
from rayfs.reports.tuning.figures import Spaces, draw_panels, draw_parallel, draw_pareto, draw_race
from rayfs.reports.tuning.table import SHOWN, best_trials
from rayfs.runs.race import Race
from rayfs.runs.run_directory import RunDirectory
from rayfs.runs.search_state import SearchState
from rayfs.statistics.trials import Trial, choose_winner, stopped_at

PAGE = "tune.html"


def write_page(
    run: RunDirectory, trials: Sequence[Trial], state: SearchState, baseline: str, best_command: str, command: str
) -> None:
    """Write `tune.html` into the open run of a search."""
    manifest = run.manifest()
    assert manifest is not None, "the run directory is open"
    run.write_file(PAGE, build_page(manifest, trials, state, baseline, best_command, command))


def build_page(
    manifest: Mapping[str, Any], trials: Sequence[Trial], state: SearchState, baseline: str, best_command: str,
    command: str,
) -> str:  # fmt: skip
    """Return the page of a search with at least one trial that has a gain.

    Arguments:
        manifest: of the run directory.
        best_command: runs the winner.
        command: builds this page again.
    """
    search, winner = state.searches[-1], choose_winner(trials)
    gain = plus_minus(winner.gain, winner.half_width, sign="+")
    report = Report(
        title=f"tuning {search['method']}: {run_title(manifest['identity'])}",
        lead=f"winner {gain} points over {baseline} on {winner.episodes} validation episodes",
        facts=_facts(manifest, trials, search),
        sections=[
            Section("Best configuration", _best(winner, best_command, state, trials)),
            Section(f"Best {min(SHOWN, len(trials))} of {len(trials)} trials", [Table(best_trials(trials, baseline))]),
            _figures(trials, winner, Race(**search["race"]).rungs, baseline),
            _settings(trials, winner, search["spaces"], baseline),
            Section("Stopped trials", _stops(trials)),
            Section("Failed trials", _failed(trials)),
        ],
        footer="Everything on this page comes from the rows of the search.",
        command=command,
    )
    return render(report)


def _facts(manifest: Mapping[str, Any], trials: Sequence[Trial], search: Mapping[str, Any]) -> dict[str, str]:
    identity, race = manifest["identity"], search["race"]
    protocol, backbone = identity.get("protocol", {}), identity.get("backbone", {})
    stops = ", ".join(f"{n} after {episodes} episodes" for episodes, n in stopped_at(trials).items())
    n_finished = sum(trial.state == "finished" for trial in trials)
    rule = f"grace {race['grace']}, reduction {race['reduction']}" if race["stopping"] else "no trial is stopped"
    return {
        "Trials": f"{len(trials)}: {n_finished} ran {race['episodes']} episodes; stopped early: {stops or 'none'}",
        "Episodes": f"{protocol.get('split')} classes, seed {protocol.get('seed')}, the same for every trial",
        "Race": rule,
        "Proposals": f"{search['search']}, seed {search['seed']}",
        "Backbone": f"{backbone.get('name')}, state {backbone.get('state_hash')}",
        "Versions": versions(manifest["sessions"]),
    }


def _best(winner: Trial, best_command: str, state: SearchState, trials: Sequence[Trial]) -> list[Block]:
    bias = (
        f"It is the best of {len(trials)} on the episodes it was chosen on, so its gain there is too good: expect less "
        "on other classes, and score it once on test classes."
    )
    used = state.final and (
        f"Test classes were used, for {state.final['winner']}: {state.final['episodes']} episodes, rows and report in "
        f"{state.final['location']}."
    )
    return [
        Facts({name.replace("_", "-"): str(value) for name, value in winner.settings.items()}),
        Code(best_command),
        Note(" ".join(filter(None, [bias, against_default(trials)]))),
        Note(used or "", "warning"),
    ]


def _figures(trials: Sequence[Trial], winner: Trial, rungs: Sequence[int], baseline: str) -> Section:
    cost = (
        "With 95% intervals where a trial ran to the end. Filled and joined: the Pareto front, no trial has more gain "
        "in less time. Red: the winner; grey: stopped early."
    )
    race = "A cross is where a trial was stopped; upright lines are the episodes after which losers may be."
    figures = [
        Figure(draw_pareto(trials, winner, baseline), "Gain for its cost", cost),
        Figure(draw_race(trials, winner, rungs, baseline), "The race", race),
    ]
    return Section("Gain, cost and race", [Grid(figures)])


def _settings(trials: Sequence[Trial], winner: Trial, spaces: Spaces, baseline: str) -> Section:
    prose = (
        "Each line, and in the panels each point, is a trial: red the winner, blue to the end, grey stopped early, "
        "whose gains are those of few episodes."
    )
    drawn = (draw_parallel(trials, winner, spaces), draw_panels(trials, winner, spaces, baseline))
    return Section("Settings", [Figure(svg, wide=True) for svg in drawn], prose)


def _stops(trials: Sequence[Trial]) -> list[Block]:
    stopped = sorted(
        (trial.stop.episodes, -trial.stop.gain, trial.name, trial.stop.cut)
        for trial in trials
        if trial.stop is not None
    )
    lines = [[name, str(episodes), f"{-loss:+.2f}", f"{cut:+.2f}"] for episodes, loss, name, cut in stopped]
    heading = ["trial", "stopped after episodes", "gain there, points", "cut there, points"]
    table = Table(ResultTable(heading=heading, lines=lines, n_texts=1))
    return [Folded(f"{len(lines)} trials, and the cut that each missed", [table])]


def _failed(trials: Sequence[Trial]) -> list[Block]:
    failed = [[trial.name, str(trial.episodes)] for trial in trials if trial.state == "failed"]
    return [Table(ResultTable(heading=["trial", "episodes before it failed"], lines=failed, n_texts=1))]
