"""Runs that were written when logistic regression was called `lr` open, resume and compare under its present name."""

import json
from pathlib import Path
from typing import Any

import pytest

from rayfs.errors import InputError
from rayfs.methods.registry import canonical
from rayfs.reports.episodes.build import build_report
from rayfs.runs.run_directory import RunDirectory
from rayfs.runs.search_state import SEARCH, read_state
from rayfs.statistics.compared_run import read_run

IDENTITY = {"benchmark": "omniglot"}
METHODS: dict[str, dict[str, Any]] = {"lr": {"c": 1.0}, "lr:c=10": {"c": 10.0}, "label-halluc": {"steps": 40}}
PRESENT = {"logistic-regression": {"c": 1.0}, "logistic-regression:c=10": {"c": 10.0}, "label-halluc": {"steps": 40}}


@pytest.fixture
def former_run(tmp_path: Path, make_row) -> Path:
    """Return a run whose manifest, rows and summary have the former name; episode 1 lacks `lr:c=10`."""
    rows = [make_row(episode, name, 0.5) for episode in (0, 1) for name in METHODS if (episode, name) != (1, "lr:c=10")]
    with RunDirectory(str(tmp_path / "run")).open(IDENTITY, {}, METHODS) as run:
        run.append(rows)
        run.write_summary({"baseline": "lr", "methods": {}})
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["methods"] == METHODS
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("spec", "proper"),
    [
        ("lr", "logistic-regression"), ("lr:c=10", "logistic-regression:c=10"),
        ("logistic-regression", "logistic-regression"), ("label-halluc:lr=0.1", "label-halluc:lr=0.1"),
        ("lrs", "lrs"), ("svm", "svm"), ("", ""), ("svm:lr", "svm:lr"),
    ],
)  # fmt: skip
def test_only_the_name_before_the_colon_becomes_the_proper_one(spec, proper):
    assert canonical(spec) == proper


def test_readers_see_present_names(former_run):
    run = RunDirectory(str(former_run))
    manifest = run.manifest()
    assert manifest is not None and manifest["methods"] == PRESENT
    assert {row.method for row in run.rows()} == PRESENT.keys()
    assert run.completed() == {(e, m) for e in (0, 1) for m in PRESENT} - {(1, "logistic-regression:c=10")}


def test_a_run_resumes_where_it_stopped_and_is_refused_with_other_settings(former_run, make_row):
    with RunDirectory(str(former_run)).open(IDENTITY, {}, PRESENT) as run:
        again = make_row(0, "logistic-regression", 0.9)
        new = make_row(1, "logistic-regression:c=10", 0.7, config_hash="config-lr:c=10")
        assert run.append([again, new]) == 1
    found = {(row.episode, row.method): row.accuracy for row in RunDirectory(str(former_run)).rows()}
    assert len(found) == 6
    assert found[0, "logistic-regression"] == 0.5 and found[1, "logistic-regression:c=10"] == 0.7
    with pytest.raises(InputError, match=r"methods\.logistic-regression\.c was 1\.0 and is now 2\.0"):
        RunDirectory(str(former_run)).open(IDENTITY, {}, {"logistic-regression": {"c": 2.0}})


def test_a_comparison_finds_the_baseline_and_takes_either_name(former_run):
    run = read_run(str(former_run))
    assert run.baseline == "logistic-regression" and run.configs == PRESENT
    assert run.side("lr").rows == run.side("logistic-regression").rows


def test_the_state_of_a_search_has_present_names(former_run):
    stop = {"episodes": 8, "gain": -1.0, "cut": 0.5}
    final = {"winner": "lr:c=10", "location": "runs/final", "episodes": 600}
    stored = {"searches": [{"method": "lr", "seed": 0}], "stops": {"rule": {"lr:c=3": stop}}, "final": final}
    (former_run / SEARCH).write_text(json.dumps(stored))
    state = read_state(RunDirectory(str(former_run)))
    assert state.searches == [{"method": "logistic-regression", "seed": 0}]
    assert state.stops["rule"].keys() == {"logistic-regression:c=3"}
    assert state.final == {**final, "winner": "logistic-regression:c=10"}


def test_the_report_shows_present_names_and_measures_against_the_baseline(former_run, tmp_path):
    files = build_report(RunDirectory(str(former_run)), tmp_path)
    lines = str(files["table.csv"]).splitlines()
    assert {line.split(",")[0] for line in lines[1:]} == PRESENT.keys()
    assert "Mean gain over logistic-regression" in str(files["report.html"])
    assert ">lr<" not in str(files["report.html"])
