"""A search as users run it: killed in the middle, resumed, and its winner scored once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rayfs.runs.run_directory import RunDirectory

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
QUICK = [
    "--n-way", "5", "--n-query", "3", "--tune", "lr", "temperature",
    "--hold", "support-views=1", "step-views=1", "steps=2", "--grace", "4", "--reduction", "2", "--block", "2",
]  # fmt: skip


def command(out: Path, *flags: str) -> list[str]:
    return [sys.executable, "jobs/tune.py", *QUICK, "--out", str(out), *flags]


def label_halluc_rows(out: Path) -> dict[tuple[int, str], float | None]:
    rows = RunDirectory(str(out)).rows()
    return {(row.episode, row.method): row.accuracy for row in rows if row.method != "logistic-regression"}


def test_a_killed_search_resumes_without_running_a_finished_block_again(tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_ADDRESS": "local", "PYTHONUNBUFFERED": "1"}
    out = tmp_path / "search"
    with subprocess.Popen(
        command(out, "--n-trials", "60", "--episodes", "16"), cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("stopped after"):
                break
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    before = label_halluc_rows(out)
    stopped = json.loads((out / "search.json").read_text())["stops"]["grace 4, reduction 2"]
    assert 0 < len(before) < 61 * 16 and stopped

    result = subprocess.run(
        command(out, "--n-trials", "4", "--episodes", "8", "--final", "--final-episodes", "2"), cwd=ROOT,
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    printed = result.stdout
    assert result.returncode == 0, printed + result.stderr
    after = label_halluc_rows(out)
    last = [line for line in printed.splitlines() if line.startswith("trials ")][-1]
    n_run, n_reused = (int(last.split(f" {what}")[0].split()[-1].lstrip(",")) for what in ("episodes run", "from rows"))
    assert n_run == len(after) - len(before), "a block that was there was run again"
    assert n_reused > 0 and before.items() <= after.items()
    kept = json.loads((out / "search.json").read_text())
    assert kept["stops"]["grace 4, reduction 2"].items() >= stopped.items()

    winner = kept["final"]["winner"]
    assert "best, to paste:\n  python jobs/label_halluc_eval.py --benchmark omniglot" in printed
    assert {row.method for row in RunDirectory(str(out / "final")).rows()} == {
        "logistic-regression",
        "label-halluc",
        winner,
    }
    assert RunDirectory(str(out / "final")).manifest()["identity"]["protocol"]["split"] == "test"
    assert "winner − default" in printed or winner == "label-halluc"
    assert "Test classes were used" in (out / "tune.html").read_text()
