"""The main job on a cluster whose nodes come and go: several raylets on this machine."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue

import pytest

from rayfs.evaluation.rows import scientific_columns
from rayfs.evaluation.run_directory import RunDirectory

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FLAGS = ["--split", "validation", "--n-way", "5", "--n-query", "3", "--steps", "3", "--support-views", "1"]
N_EPISODES = 400


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """A head that has the CPUs of the base bank; this process does not connect to it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield made
    made.shutdown()


class Lines:
    """What a process prints, line by line, without waiting for ever."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.seen: list[str] = []
        self._queue: Queue[str] = Queue()
        assert process.stdout is not None
        stream = process.stdout
        threading.Thread(target=lambda: [self._queue.put(line) for line in stream], daemon=True).start()

    def until(self, *texts: str) -> str:
        """Return the first line with one of `texts`; fails if none comes in three minutes."""
        while True:
            try:
                line = self._queue.get(timeout=180)
            except Empty:
                pytest.fail(f"none of {texts} was printed:\\n{''.join(self.seen)}")
            self.seen.append(line)
            if any(text in line for text in texts):
                return line


def wait_for_workers(out: Path, n: int) -> None:
    """Wait until rows of `n` workers are committed."""
    for _ in range(180):
        if len({row.worker for row in RunDirectory(str(out)).rows()}) >= n:
            return
        time.sleep(1)
    pytest.fail(f"{n} workers took no part in three minutes")


def test_a_node_that_joins_is_used_and_one_that_is_lost_loses_nothing(cluster, tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "jobs/label_halluc_eval.py", *FLAGS, "--episodes", str(N_EPISODES)]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        lines = Lines(process)
        try:
            lines.until("2 workers with")
            lines.until("done")
            node = cluster.add_node(num_cpus=1)
            lines.until("nodes joined: 3 workers")
            wait_for_workers(tmp_path / "run", 3)
            cluster.remove_node(node, allow_graceful=False)
            lines.until("rows, summary.json")
            assert process.wait(timeout=60) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    rows = RunDirectory(str(tmp_path / "run")).rows()
    keys = [(row.episode, row.method) for row in rows]
    assert len(keys) == len(set(keys)) == 2 * N_EPISODES and all(row.status == "ok" for row in rows)
    quiet = subprocess.run(
        [*command[:-1], "12", "--out", str(tmp_path / "quiet")], cwd=ROOT, env={**environment, "RAY_ADDRESS": "local"},
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert "label-halluc │" in quiet.stdout
    expected = RunDirectory(str(tmp_path / "quiet")).rows()
    assert scientific_columns([row for row in rows if row.episode < 12]) == scientific_columns(expected)
