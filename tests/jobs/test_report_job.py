"""The report job as users run it, and what it says to wrong input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rayfs.experiments.report.flags import ReportConfig
from rayfs.experiments.report.job import run_report
from rayfs.flags.command_line import run_job
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import RunDirectory

ROOT = Path(__file__).parents[2]


def report(*argv: str) -> int:
    """Run the job in this process, as the script does."""
    return run_job(run_report, ReportConfig, None, argv)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two episodes, without row ids."""
    rows = [
        Row(
            episode=i, method=method, status="ok", accuracy=accuracy, predictions=[0, 1], labels=[0, 1], seconds=1.0,
            episode_hash=f"hash-{i}", config_hash="c",
        )
        for method, accuracies in (("logistic-regression", (0.5, 1.0)), ("label-halluc", (1.0, 1.0)))
        for i, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    with RunDirectory(str(tmp_path / "run")).open(
        {"benchmark": "omniglot"}, {}, {"logistic-regression": {}, "label-halluc": {}}
    ) as run:
        run.append(rows)
    return tmp_path / "run"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_script_writes_the_report_and_the_tables_beside_the_rows(run: Path) -> None:
    before = files_of(run)
    command = [sys.executable, "jobs/report.py", str(run)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert str(run) in result.stdout
    after = files_of(run)
    assert after.keys() - before.keys() == {"report.html", "table.csv", "table.md", "table.tex"}
    assert all(after[name] == content for name, content in before.items() if name != ".lock")
    assert b"+25.00" in after["table.md"]


def test_with_out_nothing_is_written_into_the_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    before = files_of(run)
    run.chmod(0o500)
    with RunDirectory(str(run)).reopen():  # another process writes: readers need no lock
        during = files_of(run)
        assert report(str(run), "--out", str(tmp_path / "deep" / "page.html")) == 0
        assert files_of(run) == during
    run.chmod(0o700)
    assert files_of(run).keys() == before.keys()
    assert (tmp_path / "deep" / "page.html").read_bytes().startswith(b"<!doctype html>")
    assert "page.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["{tmp}/nothing"], "has no manifest.json: it is not a run directory"),
        (["{run}", "--out", "{tmp}/page.pdf"], "expected the name of an HTML file"),
        (["{run}", "--out", "{run}/manifest.json/page.html"], "cannot write it"),
        (["ftp://nowhere/run"], "is not a location that pyarrow can open"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_two(
    flags: list[str], expected: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert report(*(flag.format(run=run, tmp=tmp_path) for flag in flags)) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and expected in errors[0], captured.err
    assert "Traceback" not in captured.out + captured.err


def test_a_run_that_another_process_writes_is_refused(run: Path, capsys: pytest.CaptureFixture) -> None:
    with RunDirectory(str(run)).reopen():
        assert report(str(run)) == 2
    assert "another process is writing this run" in capsys.readouterr().err
    assert not (run / "report.html").exists()


def test_the_script_answers_help_without_importing_torch() -> None:
    before = os.times()
    command = [sys.executable, "jobs/report.py", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert "--out" in result.stdout and used < 1.0
