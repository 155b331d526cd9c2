"""tune.html: what a search found, in one file that needs no network. Every text from outside is escaped."""

from collections.abc import Mapping, Sequence
from typing import Any

from rayfs.reports import page
from rayfs.reports.table_exports import escape_html
from rayfs.reports.text_table import plus_minus
from rayfs.reports.tuning.default import against_default
from rayfs.reports.tuning.figures import draw_panels, draw_parallel, draw_pareto, draw_race
from rayfs.reports.tuning.table import SHOWN, trial_cells
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
    spaces, rungs = search["spaces"], Race(**search["race"]).rungs
    title = f"tuning {search['method']}: {page.page_title(manifest['identity'])}"
    wide = draw_parallel(trials, winner, spaces)
    sections = [
        _head(title, manifest, trials, search, winner, baseline),
        page.section("Best configuration", _best(winner, best_command, state, trials)),
        page.section(f"Best {min(SHOWN, len(trials))} of {len(trials)} trials", _table(trials, baseline)),
        page.section(
            "Gain, cost and race",
            page.grid(
                page.plot(
                    draw_pareto(trials, winner, baseline), "Gain for its cost",
                    "With 95% intervals where a trial ran to the end. Filled and joined: the Pareto front, no trial "
                    "has more gain in less time. Red: the winner; grey: stopped early.",
                ),
                page.plot(
                    draw_race(trials, winner, rungs, baseline), "The race",
                    "A cross is where a trial was stopped; upright lines are the episodes after which losers may be.",
                ),
            ),
        ),
        page.section("Settings", _broad(wide), _broad(draw_panels(trials, winner, spaces, baseline)),
                     text="Each line, and in the panels each point, is a trial: red the winner, blue to the end, grey "
                     "stopped early, whose gains are those of few episodes."),
        page.section("Stopped trials", _stops(trials)),
        page.section("Failed trials", _failed(trials)),
    ]  # fmt: skip
    again = f"<code>{escape_html(command)}</code> builds it again."
    footer = f"Everything on this page comes from the rows of the search. {again}"
    return page.page(title, sections, command, footer)


def _head(
    title: str, manifest: Mapping[str, Any], trials: Sequence[Trial], search: Mapping[str, Any], winner: Trial,
    baseline: str,
) -> str:  # fmt: skip
    identity, race = manifest["identity"], search["race"]
    sessions = manifest["sessions"]
    versions = sessions[-1].get("versions", {}) if sessions else {}
    protocol, backbone = identity.get("protocol", {}), identity.get("backbone", {})
    stops = ", ".join(f"{n} after {episodes} episodes" for episodes, n in stopped_at(trials).items())
    n_finished = sum(trial.state == "finished" for trial in trials)
    rule = f"grace {race['grace']}, reduction {race['reduction']}" if race["stopping"] else "no trial is stopped"
    facts = {
        "Trials": f"{len(trials)}: {n_finished} ran {race['episodes']} episodes; stopped early: {stops or 'none'}",
        "Episodes": f"{protocol.get('split')} classes, seed {protocol.get('seed')}, the same for every trial",
        "Race": rule,
        "Proposals": f"{search['search']}, seed {search['seed']}",
        "Backbone": f"{backbone.get('name')}, state {backbone.get('state_hash')}",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    listed = "".join(f"<dt>{escape_html(name)}</dt><dd>{escape_html(value)}</dd>" for name, value in facts.items())
    gain = plus_minus(winner.gain, winner.half_width, sign="+")
    lead = f"winner {gain} points over {baseline} on {winner.episodes} validation episodes"
    return (
        f'<header><h1>{escape_html(title)}</h1>\n<p class="lead">{escape_html(lead)}</p>\n'
        f'<dl class="facts">{listed}</dl></header>'
    )


def _best(winner: Trial, best_command: str, state: SearchState, trials: Sequence[Trial]) -> str:
    settings = "".join(
        f"<dt>{escape_html(name.replace('_', '-'))}</dt><dd>{escape_html(value)}</dd>"
        for name, value in winner.settings.items()
    )
    bias = (
        f"It is the best of {len(trials)} on the episodes it was chosen on, so its gain there is too good: expect less "
        "on other classes, and score it once on test classes."
    )
    bias = " ".join(filter(None, [bias, against_default(trials)]))
    used = ""
    if state.final is not None:
        used = page.warning(
            f"Test classes were used, for {state.final['winner']}: {state.final['episodes']} episodes, rows and report "
            f"in {state.final['location']}."
        )
    return (
        f'<dl class="facts">{settings}</dl>\n<pre>{escape_html(best_command)}</pre>\n<p>{escape_html(bias)}</p>{used}'
    )


def _table(trials: Sequence[Trial], baseline: str) -> str:
    heading, lines = trial_cells(trials[:SHOWN], baseline)
    return page.plain_table([text.replace("\n", " ") for text in heading], lines)


def _stops(trials: Sequence[Trial]) -> str:
    stopped = sorted(
        (trial.stop.episodes, -trial.stop.gain, trial.name, trial.stop.cut)
        for trial in trials
        if trial.stop is not None
    )
    if not stopped:
        return ""
    lines = [[name, str(episodes), f"{-loss:+.2f}", f"{cut:+.2f}"] for episodes, loss, name, cut in stopped]
    table = page.plain_table(["trial", "stopped after episodes", "gain there, points", "cut there, points"], lines)
    return page.folded(f"{len(lines)} trials, and the cut that each missed", table)


def _failed(trials: Sequence[Trial]) -> str:
    failed = [[trial.name, str(trial.episodes)] for trial in trials if trial.state == "failed"]
    return page.plain_table(["trial", "episodes before it failed"], failed) if failed else ""


def _broad(svg: str) -> str:
    return f'<div class="wide"><figure class="matrix">{svg}</figure></div>' if svg else ""
