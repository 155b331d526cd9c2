"""Several hosts for real, as far as one machine can: namespaces of the network, one of which is cut off in mid-run."""

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from rayfs.runs.rows import scientific_columns
from rayfs.runs.run_directory import RunDirectory

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("network_namespaces.sh")
FLAGS = "--split validation --n-way 5 --n-query 3 --steps 3 --support-views 1 --step-views 1 --episodes"
N_EPISODES, N_QUIET = 1500, 60
LIMIT_S = 900


def why_not() -> str | None:
    """Return why the test cannot run here, None if it can."""
    if os.environ.get("RAYFS_NAMESPACES") != "1":
        return "takes minutes and changes the network of this machine: RAYFS_NAMESPACES=1 runs it, as root"
    if os.geteuid() != 0:
        return "needs root"
    missing = [program for program in ("ip", "unshare", "nsenter") if shutil.which(program) is None]
    if missing:
        return f"needs {' and '.join(missing)} (iproute2, util-linux)"
    if subprocess.run(["unshare", "--net", "--mount", "--uts", "true"], capture_output=True).returncode != 0:
        return "this machine allows no namespaces"
    return None


pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_a_host_that_is_cut_off_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    with subprocess.Popen([SCRIPT, tmp_path, *FLAGS.split(), str(N_EPISODES)], cwd=ROOT, env=environment) as process:
        try:
            assert process.wait(timeout=LIMIT_S) == 0, (tmp_path / "job.log").read_text()
        finally:
            process.terminate()  # its trap takes the hosts down
    times = {text: time for time, text in (line.split(" ", 1) for line in (tmp_path / "events.log").open())}
    cut, noticed, again = (
        next(datetime.fromisoformat(time + "Z") for text, time in times.items() if text.startswith(start))
        for start in ("host1 cut off", "the head takes host1 for dead", "host1 has joined again")
    )
    rows = RunDirectory(str(tmp_path / "run")).rows()
    assert len(rows) == 2 * N_EPISODES and all(row.status == "ok" for row in rows)
    assert {row.node for row in rows} == {"host1", "host2"}
    assert sum(row.attempt > 1 for row in rows) >= 1, "the episode that host1 was at"
    written = [json.loads(line) for line in (tmp_path / "rows.jsonl").open()]
    by_time = [(datetime.fromisoformat(row["time"]), row["node"], row["worker"]) for row in written]
    assert len({worker for _, node, worker in by_time if node == "host1"}) == 2, "one before, one after"
    alone = {node for time, node, _ in by_time if noticed < time < again}
    assert cut < noticed < again and "host2" in alone
    quiet = [
        sys.executable,
        "jobs/label_halluc_eval.py",
        *FLAGS.split(),
        str(N_QUIET),
        "--out",
        str(tmp_path / "quiet"),
    ]
    subprocess.run(quiet, cwd=ROOT, env={**os.environ, "RAY_ADDRESS": "local"}, check=True, timeout=LIMIT_S)
    expected = RunDirectory(str(tmp_path / "quiet")).rows()
    assert scientific_columns([row for row in rows if row.episode < N_QUIET]) == scientific_columns(expected)
