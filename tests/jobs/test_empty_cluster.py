"""The main job on a cluster that has no CPU yet: it waits for the first node, and asks for it where it can be seen."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_lines import Lines

from rayfs.runs.run_directory import RunDirectory

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FLAGS = ["--split", "validation", "--n-way", "5", "--n-query", "3", "--steps", "3", "--support-views", "1"]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """A head without CPUs; this process does not connect to it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield made
    made.shutdown()


def test_an_empty_cluster_is_waited_for_until_a_node_joins(cluster, tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "jobs/label_halluc_eval.py", *FLAGS, "--episodes", "4", "--out", str(tmp_path / "run")]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        lines = Lines(process)
        try:
            assert "on 1 nodes (0 of 600 s, --wait-for-nodes)" in lines.until("waiting for nodes: 1 workers with 1 CPU")
            cluster.add_node(num_cpus=2)
            assert "(2 nodes, 2 CPUs, 0 GPUs)" in lines.until("2 workers with 1 CPUs")
            lines.until("rows, summary.json")
            assert process.wait(timeout=60) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert len(RunDirectory(str(tmp_path / "run")).rows()) == 8
