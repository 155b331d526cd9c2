"""Trials out of rows, the race's books, the state that a search keeps, and the board."""

import io
import json
import math

import pytest

from rayfs.errors import InputError
from rayfs.reports.tuning.board import Board, Standing
from rayfs.reports.tuning.default import against_default
from rayfs.reports.tuning.table import trials_table
from rayfs.runs.race import Race, Stop
from rayfs.runs.run_directory import RunDirectory
from rayfs.runs.search_state import SEARCH, read_state, write_state
from rayfs.statistics.race import Rungs
from rayfs.statistics.trials import (
    Trial,
    choose_winner,
    is_failed,
    pareto_front,
    read_trials,
    stopped_at,
)


def trial(name: str = "m:a=1", **changes) -> Trial:
    fields = {
        "name": name, "settings": {"lr": 0.1}, "state": "finished", "episodes": 9, "gain": 1.0, "half_width": 0.5,
        "accuracy": 80.0, "seconds": 2.0, "gains": dict.fromkeys(range(9), 1.0),
    }  # fmt: skip
    return Trial(**{**fields, **changes})


# Race


def test_rungs_and_reports_of_a_race():
    race = Race(episodes=72, grace=8, reduction=3, block=10)
    assert race.rungs == [8, 24]
    assert race.block_ends == [8, 10, 20, 24, 30, 40, 50, 60, 70, 72]
    assert Race(episodes=72, grace=8, reduction=3, block=72, stopping=False).block_ends == [72]


@pytest.mark.parametrize("changes", [{"block": 0}, {"grace": 1}, {"reduction": 1}, {"episodes": 7}])
def test_a_race_that_cannot_be_is_refused(changes):
    with pytest.raises(InputError, match="at least as many episodes as --grace"):
        Race(**{"episodes": 72, "grace": 8, "reduction": 3, "block": 8, **changes})


def test_the_cut_is_the_quantile_of_the_gains_that_came_before():
    rungs = Rungs(race=Race(episodes=72, grace=8, reduction=3, block=4))
    assert rungs.pass_by("a", 4, 9.0) is None, "no rung"
    assert rungs.pass_by("a", 8, 1.0) is None, "the first meets no cut"
    assert rungs.pass_by("b", 8, 4.0) == 1.0
    assert rungs.pass_by("c", 8, 0.0) == pytest.approx(3.0)  # two thirds of the way from 1 to 4
    assert rungs.pass_by("a", 24, 1.0) is None


# Trials


def test_trials_are_read_from_rows(make_row):
    rows = [make_row(e, "lr", 0.5) for e in range(4)]
    rows += [make_row(e, "m", 0.6, seconds=3.0) for e in range(4)]
    rows += [make_row(0, "m:a=1", 0.9), make_row(1, "m:a=1", 0.7)]
    rows += [make_row(e, "m:a=2", 0.6) for e in range(2)]
    stops = {"m:a=1": Stop(episodes=2, gain=30.0, cut=31.0)}
    names = {"m": {"a": 0}, "m:a=1": {"a": 1}, "m:a=2": {"a": 2}, "m:a=3": {"a": 3}}
    best, *others = read_trials(rows, names, "lr", 4, stops)
    assert (best.name, best.state, best.episodes, best.half_width) == ("m", "finished", 4, 0.0)
    assert best.gain == pytest.approx(10.0)
    assert best.seconds == 3.0 and best.accuracy == 60.0 and best.is_default
    assert [(t.name, t.state, t.episodes) for t in others] == [("m:a=1", "stopped", 2), ("m:a=2", "unfinished", 2)]
    assert others[0].gain == pytest.approx(30.0) and others[0].curve == [(1, 40.0), (2, pytest.approx(30.0))]
    assert stopped_at([best, *others]) == {2: 1}


def test_episodes_behind_the_end_of_a_search_do_not_count(make_row):
    rows = [make_row(e, m, 0.5) for e in range(9) for m in ("lr", "m")]
    (only,) = read_trials(rows, {"m": {}}, "lr", 4, {})
    assert only.episodes == 4 and only.state == "finished"


def test_a_stopped_trial_that_was_run_to_the_end_later_is_finished(make_row):
    rows = [make_row(e, m, 0.5) for e in range(4) for m in ("lr", "m")]
    (only,) = read_trials(rows, {"m": {}}, "lr", 4, {"m": Stop(episodes=2, gain=0.0, cut=1.0)})
    assert only.state == "finished" and only.stop is None


@pytest.mark.parametrize("fields", [{"accuracy": None}, {"loss_base": math.nan}, {"loss_support": math.inf}])
def test_a_failure_loses_and_is_never_averaged_away(make_row, fields):
    rows = [make_row(e, m, 0.5) for e in range(4) for m in ("lr", "m")]
    rows += [make_row(e, "m:a=1", 0.99) for e in range(3)]
    rows.append(make_row(3, "m:a=1", **{"accuracy": 0.99, **fields}))
    assert is_failed(rows[-1]) and not is_failed(rows[0])
    trials = read_trials(rows, {"m": {}, "m:a=1": {}}, "lr", 4, {})
    assert [t.state for t in trials] == ["finished", "failed"]
    assert choose_winner(trials).name == "m"


def test_the_winner_has_most_episodes_then_most_gain_then_least_cost():
    lucky, good = trial("m:lucky", episodes=8, gain=9.0), trial("m:good", gain=2.0)
    dear, cheap = trial("m:dear", gain=3.0, seconds=5.0), trial("m:cheap", gain=3.0, seconds=4.0)
    assert choose_winner([lucky, good, dear, cheap]).name == "m:cheap"
    with pytest.raises(InputError, match="none of 1 trials has a gain"):
        choose_winner([trial(state="failed")])


def test_no_trial_of_the_pareto_front_is_beaten_in_both():
    a, b, c = trial("a", seconds=1.0, gain=1.0), trial("b", seconds=2.0, gain=0.5), trial("c", seconds=3.0, gain=2.0)
    d, e = trial("d", seconds=1.0, gain=0.9), trial("e", seconds=4.0, gain=2.0)
    failed = trial("f", seconds=0.1, gain=9.0, state="failed")
    assert [t.name for t in pareto_front([e, failed, d, c, b, a])] == ["a", "c"]


def test_the_table_shows_settings_gains_and_where_trials_stopped():
    stop = Stop(episodes=8, gain=0.5, cut=1.5)
    text = trials_table([trial("m"), trial("m:a=2", state="stopped", episodes=8, stop=stop)], "lr")
    assert "1 default │ 0.1 │        9 │ +1.00 ± 0.50" in text
    assert "2 trials: stopped early 1 after 8 episodes, 1 finished." in text and "expect less elsewhere" in text


def test_the_winner_is_held_against_the_default_on_the_same_episodes():
    default = trial("m", gain=1.0, gains={0: 1.0, 1: 2.0, 2: 0.0})
    noisy = trial("m:a=1", gain=2.0, gains={0: 2.0, 1: 1.0, 2: 3.0, 3: 9.0})
    clear = trial("m:a=2", gain=2.0, gains={0: 2.0, 1: 3.1, 2: 1.0})
    text = against_default([default, noisy])
    assert (
        text.startswith("On the same 3 episodes the winner minus the recipe's default is +1.00 ± 4.97")
        and "may be as good" in text
    )
    assert "may be" not in against_default([default, clear])
    assert against_default([default, trial("m:a=3", gain=0.0)]) is None, "the default has won"
    assert against_default([noisy]) is None and against_default([noisy, trial("m", gains={8: 1.0})]) is None


# State


@pytest.fixture
def run(tmp_path):
    with RunDirectory(str(tmp_path / "run")).open({"benchmark": "b"}, {}, {"m": {}}) as opened:
        yield opened


def test_the_state_comes_back_as_it_was_written(run):
    race, slower = Race(episodes=72, grace=8, block=8), Race(episodes=72, grace=12, block=12)
    state = read_state(run)
    state.add_search({"seed": 0, "race": {"grace": 8}})
    state.add_search({"seed": 1, "race": {"grace": 8}})
    state.add_search({"seed": 0, "race": {"grace": 8}})
    state.stops_of(race)["m:a=1"] = Stop(episodes=8, gain=0.5, cut=1.0)
    write_state(run, state)
    again = read_state(run)
    assert again == state and [search["seed"] for search in again.searches] == [1, 0]
    assert again.stops_of(race) == {"m:a=1": Stop(episodes=8, gain=0.5, cut=1.0)}
    assert again.stops_of(slower) == {}, "another rule would have decided otherwise"
    assert again.stops_of(Race(episodes=72, grace=8, block=8, stopping=False)) == {}


def test_test_classes_are_used_for_one_winner_only(run):
    state = read_state(run)
    state.mark_final("m:a=1", "runs/final", 200)
    state.mark_final("m:a=1", "runs/final", 100)
    write_state(run, state)
    again = read_state(run)
    assert again.final == {"winner": "m:a=1", "location": "runs/final", "episodes": 200}
    with pytest.raises(InputError, match="used already, by m:a=1 in runs/final, and the winner is now m:a=2"):
        again.mark_final("m:a=2", "runs/final", 200)


@pytest.mark.parametrize("content", ["{", "[]", '{"searches": [], "stops": {"r": {"m": {"a": 1}}}, "final": null}'])
def test_a_damaged_state_is_refused(run, content):
    run.write_file(SEARCH, content)
    with pytest.raises(InputError, match="is damaged"):
        read_state(run)


def test_the_state_is_plain_json(run):
    write_state(run, read_state(run))
    assert json.loads(run.read_file(SEARCH)) == {"searches": [], "stops": {}, "final": None}


# Board


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_board_counts_what_was_run_and_what_was_there():
    clock, stream = Clock(), io.StringIO()
    board = Board(3, stream, clock)
    board.started("m:a=1")
    board.reported("m:a=1", Standing(episodes=4, gain=1.0, half_width=2.0, seconds=1.0, n_run=0))
    board.reported("m:a=1", Standing(episodes=8, gain=2.0, half_width=1.0, seconds=1.0, n_run=3))
    board.started("m:a=2")
    board.reported("m:a=2", Standing(episodes=4, gain=-1.0, half_width=2.0, n_run=4))
    clock.now = 10.0
    board.stopped("m:a=2", 0.5)
    assert board.line() == (
        "trials 1/3: 1 running, 1 stopped | best +2.00 ± 1.00 after 8: m:a=1 | 7 episodes run, 5 from rows | "
        "0.70 ep/s | ETA about 20s"
    )
    assert "stopped after 4 episodes: m:a=2, gain -1.00, the cut there +0.50" in stream.getvalue()


def test_a_log_gets_a_line_every_half_minute_and_failures_at_once():
    clock, stream = Clock(), io.StringIO()
    board = Board(2, stream, clock)
    board.started("m:a=1")
    for second in range(1, 61):
        clock.now = float(second)
        board.tick()
    assert stream.getvalue().count("trials 0/2") == 2
    board.ended("m:a=1", "failed", "Traceback\nFloatingPointError: not finite\n")
    assert stream.getvalue().endswith("failed after 0 episodes: m:a=1: FloatingPointError: not finite\n")
    assert board.best() is None


def test_a_terminal_is_repainted_in_place():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    clock, stream = Clock(), Terminal()
    board = Board(2, stream, clock)
    board.started("m:a=1")
    board.reported("m:a=1", Standing(episodes=4, gain=1.0, half_width=2.0, n_run=4))
    clock.now = 1.0
    board.tick()
    clock.now = 2.0
    board.tick()
    assert stream.getvalue().count("m:a=1 │ running") == 2 and stream.getvalue().count("\x1b[4A\x1b[J") == 1
