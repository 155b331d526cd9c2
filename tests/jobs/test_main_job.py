"""The main job as users run it: a process of its own, real Ray, real images."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rayfs.runs.rows import scientific_columns
from rayfs.runs.run_directory import RunDirectory

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
QUICK = ["--split", "validation", "--n-way", "5", "--n-query", "3", "--steps", "3", "--support-views", "1"]


N_LONG = 2000
"""Episodes of a run that is stopped: more than can be done before it is."""


def wait_for_a_part(out: Path, known: set[Path]) -> None:
    """Wait until the writer has committed something else than `known`."""
    for _ in range(600):
        if set((out / "episodes").glob("part-*.parquet")) - known:
            return
        time.sleep(0.1)
    pytest.fail(f"nothing was committed to {out} in a minute")


def command(out: Path, *flags: str) -> list[str]:
    return [sys.executable, "jobs/label_halluc_eval.py", *QUICK, "--out", str(out), *flags]


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {**os.environ, "RAY_ADDRESS": "local", "PYTHONUNBUFFERED": "1"}


def run(out: Path, environment: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(out, *flags), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> tuple[Path, str]:
    """An uninterrupted run of 12 episodes, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    result = run(out, environment, "--episodes", "12")
    assert result.returncode == 0, result.stdout + result.stderr
    return out, result.stdout


def test_the_job_prints_progress_and_a_table(finished: tuple[Path, str]) -> None:
    printed = finished[1]
    assert "omniglot: 12 episodes, 5-way 1-shot" in printed
    assert "done 12/12 | label-halluc" in printed and "gain vs logistic-regression" in printed and "ETA" in printed
    assert "win/tie/loss" in printed and "label-halluc        │" in printed


def test_the_summary_holds_the_figures(finished: tuple[Path, str]) -> None:
    summary = json.loads((finished[0] / "summary.json").read_text())
    assert summary["benchmark"] == "omniglot"
    assert summary["protocol"] == {
        "n_way": 5, "n_shot": 1, "n_query": 3, "split": "validation", "seed": 0, "episodes": 12,
    }  # fmt: skip
    for name in ("logistic-regression", "label-halluc"):
        figures = summary["methods"][name]
        assert figures["n"] == figures["n_distinct"] == 12
        assert 0 <= figures["accuracy"] <= 100 and figures["ci95"] > 0
    assert summary["methods"]["logistic-regression"]["gain"] is None
    assert summary["methods"]["label-halluc"]["gain_ci95"] > 0


def test_the_rows_say_what_happened(finished: tuple[Path, str]) -> None:
    rows = RunDirectory(str(finished[0])).rows()
    assert len(rows) == 24
    for row in rows:
        assert row.status == "ok" and row.attempt == 1 and row.seconds > 0
        assert row.accuracy == sum(map(int.__eq__, row.predictions, row.labels)) / len(row.labels)
        assert len(row.labels) == 15


def test_rerunning_a_finished_run_prints_the_table_again_and_solves_nothing(finished, environment) -> None:
    out = finished[0]
    before = {path: path.stat().st_mtime_ns for path in (out / "episodes").iterdir()}
    result = run(out, environment, "--episodes", "12")
    assert result.returncode == 0 and "label-halluc        │" in result.stdout and "done" not in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (out / "episodes").iterdir()}


@pytest.mark.parametrize(
    "stops",
    [
        ((signal.SIGINT, 130), (signal.SIGKILL, -9)),
        pytest.param(((signal.SIGTERM, 143),), marks=pytest.mark.long),  # of every run that a node is taken from, too
    ],
    ids=["Ctrl-C, then killed", "SIGTERM"],
)
def test_a_stopped_run_resumes_to_the_same_rows(finished, environment, tmp_path, stops) -> None:
    out, parts = tmp_path / "run", {}
    for signal_number, exit_code in stops:
        parts |= stop_in_mid_run(out, environment, signal_number, exit_code)
        assert 0 < len(RunDirectory(str(out)).rows()) < 2 * N_LONG, "what was finished is there, and not all was"
    result = run(out, environment, "--episodes", "12")
    assert result.returncode == 0, result.stdout + result.stderr
    assert all(path.read_bytes() == content for path, content in parts.items())
    resumed = [row for row in RunDirectory(str(out)).rows() if row.episode < 12]
    assert scientific_columns(resumed) == scientific_columns(RunDirectory(str(finished[0])).rows())


def stop_in_mid_run(out: Path, environment: dict[str, str], signal_number: int, exit_code: int) -> dict[Path, bytes]:
    """Start the job, stop it when it has committed something, and return all parts that there are then."""
    known = set((out / "episodes").glob("part-*.parquet"))
    with subprocess.Popen(
        command(out, "--episodes", str(N_LONG), "--workers", "1"), cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("done"):
                break
        wait_for_a_part(out, known)
        parts = {path: path.read_bytes() for path in (out / "episodes").glob("part-*.parquet")}
        process.send_signal(signal_number)
        printed = process.stdout.read()
        assert process.wait(timeout=60) == exit_code
    if exit_code > 0:
        assert "Resume with:" in printed and str(out) in printed
    return parts


def test_failed_episodes_are_reported_and_the_exit_code_is_one(environment, tmp_path) -> None:
    result = run(tmp_path / "run", environment, "--episodes", "2", "--lr", "1e30")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "label-halluc: failed 3 times" in result.stdout and "not finite" in result.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["methods"]["label-halluc"]["n_failed"] == 2
    assert summary["methods"]["label-halluc"]["accuracy"] is None
    assert summary["methods"]["logistic-regression"]["n"] == 2


@pytest.mark.parametrize("job", ["label_halluc_eval", "report"], ids=["more than a buffer", "less"])
def test_reader_that_leaves_is_no_crash(job) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, f"jobs/{job}.py", "--help"], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


def test_help_answers_within_half_a_second_of_processor_time() -> None:
    before = os.times()
    result = subprocess.run(
        [sys.executable, "jobs/label_halluc_eval.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert "--help-method" in result.stdout and used < 0.5
