"""The main job on a cluster whose nodes come and go: several raylets on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_lines import Lines
from pyarrow import parquet
from quiet_rows import quiet_rows

from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.flags.parsing import configured
from rayfs.runs.rows import scientific_columns
from rayfs.runs.run_directory import RunDirectory

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FLAGS = ["--split", "validation", "--n-way", "5", "--n-query", "3", "--steps", "3", "--support-views", "1"]
N_LONG = 20000
"""Episodes of a run that is stopped: more than can be done before it is."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """A head that has the CPUs of the base bank; this process does not connect to it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, "dashboard_port": 0}
    )
    yield made
    made.shutdown()


def wait_for_workers(out: Path, n: int) -> None:
    """Wait until rows of `n` workers are committed."""
    for _ in range(180):
        if len({row.worker for row in RunDirectory(str(out)).rows()}) >= n:
            return
        time.sleep(1)
    pytest.fail(f"{n} workers took no part in three minutes")


def test_a_node_that_joins_is_used_one_that_is_lost_loses_nothing_and_its_successor_is_used(cluster, tmp_path) -> None:
    out = tmp_path / "run"
    environment = {**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "jobs/label_halluc_eval.py", *FLAGS, "--out", str(out), "--episodes"]
    with subprocess.Popen(
        [*command, str(N_LONG)], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        lines = Lines(process)
        try:
            lines.until("2 workers with")
            lines.until("done")
            node = cluster.add_node(num_cpus=1)
            lines.until("nodes joined: 3 workers")
            wait_for_workers(out, 3)
            cluster.remove_node(node, allow_graceful=False)
            lines.until("attempt 1 of 3: the worker died")
            cluster.add_node(num_cpus=1)
            wait_for_workers(out, 4)
            process.send_signal(signal.SIGTERM)
            lines.until("Resume with:")
            assert process.wait(timeout=60) == 143
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    before = {row.episode for row in RunDirectory(str(out)).rows()}
    n_episodes = max(before) + 1
    lost = set(range(n_episodes)) - before
    assert lost, "the lost node's episode would have been tried again after all others"
    subprocess.run([*command, str(n_episodes)], cwd=ROOT, env=environment, timeout=300, check=True)
    rows = RunDirectory(str(out)).rows()
    n_committed = sum(parquet.read_metadata(part).num_rows for part in (out / "episodes").glob("part-*.parquet"))
    assert len(rows) == n_committed == 2 * n_episodes and all(row.status == "ok" for row in rows)
    looked_at = {*range(6), *lost}
    config = configured(
        EvalConfig, split="validation", n_way=5, n_query=3, steps=3, support_views=1, episodes=n_episodes, check=True
    )
    expected = quiet_rows(config, Path(environment["RAYFS_CACHE"]), looked_at)
    assert scientific_columns([row for row in rows if row.episode in looked_at]) == scientific_columns(expected)
