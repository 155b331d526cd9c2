"""`ray job submit` against a head started by `ray start`: small upload, logs followed, stopped, resumed, exit codes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import parquet
from quiet_rows import quiet_rows
from ray_head import RAY, address_of, ray_head

from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.flags.parsing import configured
from rayfs.runs.rows import scientific_columns
from rayfs.runs.run_directory import RunDirectory

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
UPLOAD_LIMIT_BYTES = 16_000_000


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[str, dict[str, str], Path]]:
    """A head node with two CPUs in a folder of its own: (dashboard address, environment, its folder)."""
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "RAY_worker_niceness": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("RAY_ADDRESS", None)
    with ray_head(environment) as (dashboard, folder):
        yield dashboard, environment, folder


JOB = ["python", "jobs/label_halluc_eval.py", "--split", "validation", "--n-way", "5", "--steps", "2"]


def ray_job(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RAY, "job", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def submit(address: str, environment: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    return ray_job(environment, "submit", "--address", address, "--working-dir", ".", "--", *JOB, *flags)


def wait_for_a_part(out: Path) -> None:
    """Wait up to three minutes until the job has committed something."""
    for _ in range(1800):
        if list((out / "episodes").glob("part-*.parquet")):
            return
        time.sleep(0.1)
    pytest.fail(f"nothing was committed to {out}")


def test_a_stopped_job_resumes_when_submitted_again_runs_to_its_table_and_uploads_little(head, tmp_path) -> None:
    address, environment, folder = head
    out = tmp_path / "run"
    longer = '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}'  # a busy machine needs more than Ray's 3 seconds
    started = ray_job(
        environment, "submit", "--address", address, "--working-dir", ".", "--runtime-env-json", longer, "--no-wait",
        "--submission-id", "first", "--", *JOB, "--episodes", "2000", "--out", str(out),
    )  # fmt: skip
    assert started.returncode == 0, started.stdout + started.stderr
    wait_for_a_part(out)
    stopped = ray_job(environment, "stop", "--address", address, "first")
    assert stopped.returncode == 0 and "Job 'first' was stopped" in stopped.stdout, stopped.stdout + stopped.stderr
    log = ray_job(environment, "logs", "--address", address, "first").stdout
    assert f"stopped; {out} keeps what is finished. Resume with:" in log and f"--out {out}" in log
    before = RunDirectory(str(out)).rows()
    n_episodes = max(row.episode for row in before) + 5
    assert 0 < len(before) < 2 * n_episodes

    result = submit(address, environment, "--episodes", str(n_episodes), "--out", str(out))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "label-halluc        │" in result.stdout, "the log is followed to the table"
    assert json.loads((out / "summary.json").read_text())["methods"]["logistic-regression"]["n"] == n_episodes
    rows = RunDirectory(str(out)).rows()
    assert len(rows) == 2 * n_episodes and all(row.status == "ok" for row in rows)
    n_committed = sum(parquet.read_metadata(part).num_rows for part in (out / "episodes").glob("part-*.parquet"))
    assert n_committed == 2 * n_episodes, "none is committed twice"
    first_and_last = {0, 1, 2, n_episodes - 3, n_episodes - 2, n_episodes - 1}
    config = configured(EvalConfig, split="validation", n_way=5, steps=2, episodes=n_episodes, check=True)
    expected = quiet_rows(config, Path(environment["RAYFS_CACHE"]), first_and_last)
    assert scientific_columns([row for row in rows if row.episode in first_and_last]) == scientific_columns(expected)

    packages = [path for path in folder.rglob("_ray_pkg_*") if path.is_dir()]
    assert packages, "the working directory was uploaded"
    for package in packages:
        assert not any((package / name).exists() for name in (".venv", ".git", "runs", "data", "tests"))
        assert sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) < UPLOAD_LIMIT_BYTES


def test_a_relative_out_is_refused_because_it_would_be_lost(head) -> None:
    address, environment, _ = head
    result = submit(address, environment, "--episodes", "3", "--out", "runs/lost")
    assert result.returncode == 1, "the client reports every failed job as 1"
    assert "give an absolute path" in result.stdout and "exit code 2" in result.stdout + result.stderr


def test_a_plain_job_joins_the_cluster_of_ray_address(head, tmp_path) -> None:
    _, environment, folder = head
    address = address_of(folder)
    flags = ["--split", "validation", "--n-way", "5", "--steps", "2", "--episodes", "3", "--out", str(tmp_path / "run")]
    result = subprocess.run(
        [sys.executable, "jobs/label_halluc_eval.py", *flags], cwd=ROOT, env={**environment, "RAY_ADDRESS": address},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"on the Ray cluster at {address}" in result.stdout
