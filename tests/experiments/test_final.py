"""The final of a search: which side is the winner's, and what is printed of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rayfs.experiments.tuning import final
from rayfs.experiments.tuning.final import compared_with_default
from rayfs.experiments.tuning.flags import TuneConfig
from rayfs.flags.parsing import configured
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import RunDirectory
from rayfs.runs.search_state import SearchState, read_state
from rayfs.statistics.trials import Trial

WINNER, DEFAULT = "label-halluc:steps=9", "label-halluc"


def test_the_winner_is_a_and_the_default_is_b(tmp_path: Path, make_row: Callable[..., Row]) -> None:
    """A minus B, a win and the means of both sides are the winner's."""
    rows = [make_row(i, WINNER, 0.9) for i in range(4)]
    rows += [make_row(i, DEFAULT, accuracy) for i, accuracy in enumerate((0.5, 0.6, 0.6, 0.95))]
    with RunDirectory(str(tmp_path)).open({"benchmark": "omniglot"}, {}, {}) as run:
        run.append(rows)
    comparison = compared_with_default(str(tmp_path), winner=WINNER, default=DEFAULT)
    assert comparison.name == "winner − default"
    assert (comparison.pairing.name_a, comparison.pairing.name_b) == (
        f"{WINNER} of {tmp_path}",
        f"{DEFAULT} of {tmp_path}",
    )
    figures = comparison.figures
    assert (figures.a.mean, figures.b.mean, round(figures.difference.interval.mean, 9)) == (90.0, 66.25, 23.75)
    assert (figures.difference.win, figures.difference.loss) == (3, 1)


def test_an_episode_that_one_of_them_failed_is_left_out(tmp_path: Path, make_row: Callable[..., Row]) -> None:
    rows = [make_row(i, method, 0.5) for i in range(3) for method in (WINNER, DEFAULT) if (i, method) != (2, WINNER)]
    with RunDirectory(str(tmp_path)).open({"benchmark": "omniglot"}, {}, {}) as run:
        run.append([*rows, make_row(2, WINNER, None)])
    assert compared_with_default(str(tmp_path), winner=WINNER, default=DEFAULT).figures.difference.interval.n == 2


def test_what_is_printed_sets_the_winner_against_the_default(
    tmp_path: Path, make_row: Callable[..., Row], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the episodes made up: the search's state is written before they are solved."""
    config = configured(TuneConfig, method=DEFAULT, benchmark="cifar-fs", n_shot=5, episodes=72, out=str(tmp_path))
    winner = Trial(
        name=WINNER, settings={}, state="finished", episodes=72, gain=1.0, half_width=0.5, accuracy=60.0, seconds=1.0,
        gains={},
    )  # fmt: skip
    search = RunDirectory(str(tmp_path)).open({"benchmark": "cifar-fs"}, {})

    def solve(experiment: object, run: RunDirectory, *given: object, **settings: object) -> dict[str, object]:
        state = read_state(search)
        assert state.final is not None and state.final["winner"] == WINNER
        run.append([make_row(i, name, a) for i in range(3) for name, a in ((WINNER, 0.9), (DEFAULT, 0.5))])
        return {}

    monkeypatch.setattr(final, "build_experiment", lambda evaluation, cache_dir: evaluation)
    monkeypatch.setattr(final, "open_run", lambda experiment, location, command: RunDirectory(location).open({}, {}))
    monkeypatch.setattr(final, "evaluate", solve)
    for name in ("describe", "describe_results", "write_report"):
        monkeypatch.setattr(final, name, lambda *given: "")
    with search:
        final.score_winner(config, winner, search, SearchState(), tmp_path, ["python", "jobs/tune.py"])
    printed = capsys.readouterr().out
    assert "winner (A) against the recipe's default (B)" in printed
    line = next(line for line in printed.splitlines() if line.startswith("winner − default"))
    assert [cell.strip() for cell in line.split("│")[1:]] == [
        "3",
        "90.00 ± 0.00",
        "50.00 ± 0.00",
        "+40.00 ± 0.00",
        "3/0/0",
    ]
