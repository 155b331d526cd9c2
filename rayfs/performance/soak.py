"""A soak: the main job, run twice on raylets of this machine; the second time its workers and nodes die."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rayfs.distributed.own_cluster import own_cluster
from rayfs.durable_files import write_durably
from rayfs.engine.progress import WorkProgress
from rayfs.experiments.episodes.experiment import session_information
from rayfs.flags.command_line import EXIT_FAILED, EXIT_OK
from rayfs.methods.registry import BASELINE
from rayfs.performance.soak_flags import SoakConfig
from rayfs.performance.soak_tally import FaultTally, committed_rows, soak_table, tally_episodes, tally_memory
from rayfs.randomness import RawStream
from rayfs.runs.run_directory import RunDirectory

METHODS = (BASELINE, "label-halluc")
SHORT = [
    "--split", "validation", "--n-way", "5", "--n-query", "3", "--steps", "3", "--support-views", "1",
    "--step-views", "1", "--methods", *METHODS,
]  # fmt: skip
"""Flags of an episode of some tens of milliseconds."""

HEAD_CPUS = 2
"""The base bank needs so many on one node."""

TICK_S = 0.25
"""How often the driver's memory is read, and faults may happen."""

APART = 40
"""Episodes between two faults, at least. An episode that is hit three times is given up, as it has to be: it might be
what kills. Where a slow machine solves few episodes between two faults, that happens by chance: to 2,000 (1/12)^3 = 1.2
of them with twelve, to 0.03 with forty."""

STALL_S = 600.0
"""A driver that ends no episode for so long is killed: the soak has failed."""


def run_soak(config: SoakConfig, job: Path) -> int:
    """Run `job` quietly, then with faults; print the tally, write soak.json, and return the exit code."""
    config.out.mkdir(parents=True, exist_ok=True)
    with own_cluster(config.nodes, HEAD_CPUS) as cluster:
        command, address = [sys.executable, str(job), *SHORT], cluster.address
        quiet = follow(command, config.n_reference, config.out / "reference", address, None)
        if quiet.exit_code != 0:
            print(f"the quiet run failed with exit code {quiet.exit_code}; {config.out}/reference.log says why")
            return EXIT_FAILED
        faults = Faults(cluster, config)
        soak = follow(command, config.episodes, config.out / "soak", address, faults)
    if len(soak.memory) < 3:
        print(f"the soak ended with exit code {soak.exit_code} before there was anything to count; see {config.out}")
        return EXIT_FAILED
    rows, reference = committed_rows(str(config.out / "soak")), RunDirectory(str(config.out / "reference")).rows()
    episodes = tally_episodes(rows, reference, METHODS, config.episodes)
    memory, injected = tally_memory(soak.memory, config.episodes), faults.tally()
    right = soak.exit_code == 0 and episodes.right and memory.flat and injected.enough
    table = soak_table(episodes, memory, injected, soak.seconds, config.n_reference / quiet.seconds)
    print(f"\n{table}\n\n{'all is right' if right else 'NOT right'}; driver's exit code {soak.exit_code}; {config.out}")
    record = {
        "right": right, "exit_code": soak.exit_code, "episodes": asdict(episodes),
        "memory": {**asdict(memory), "flat": memory.flat, "samples": soak.memory}, "faults": asdict(injected),
        "events": faults.events, "seconds": soak.seconds, "quiet_seconds": quiet.seconds,
        **session_information(sys.argv),
    }  # fmt: skip
    write_durably(config.out / "soak.json", (json.dumps(record, indent=1) + "\n").encode())
    return EXIT_OK if right else EXIT_FAILED


class Faults:
    """Kills workers and loses nodes of a cluster now and then; what and when is drawn from the seed.

    Only workers that are at an episode are killed, and only nodes with such a worker are lost. One that is being
    restarted is left alone: on a slow machine there would never be another.
    """

    def __init__(self, cluster: Any, config: SoakConfig) -> None:
        self._cluster, self._config = cluster, config
        self._stream = RawStream(f"soak|{config.seed}")
        self._started = time.monotonic()
        self._kill_due, self._node_due = self._wait(config.kill_every), self._wait(config.node_every)
        self._away = False
        self._quiet_until = 0
        self.events: list[dict[str, Any]] = []

    def start(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def tick(self, n_done: int) -> None:
        """Do what is due, now that `n_done` episodes are done."""
        if self._away and self._now() >= self._node_due:
            self._cluster.add_node(num_cpus=1)
            self._note("node regained")
            self._away = False
            self._node_due = self._now() + self._wait(self._config.node_every) / 2
        if n_done < self._quiet_until:
            return
        if not self._away and self._now() >= self._node_due:
            if self._lose_node():
                self._quiet_until = n_done + APART
            self._node_due = self._now() + self._wait(self._config.node_every) / 2
        elif self._now() >= self._kill_due:
            if self._kill_worker():
                self._quiet_until = n_done + APART
            self._kill_due = self._now() + self._wait(self._config.kill_every)

    def tally(self) -> FaultTally:
        """Count the events."""
        what = [event["what"] for event in self.events]
        return FaultTally(
            workers_killed=what.count("worker killed"),
            nodes_lost=what.count("node lost"),
            nodes_regained=what.count("node regained"),
        )

    def describe(self) -> str:
        """Return the counts for the line of progress."""
        tally = self.tally()
        return f"workers killed {tally.workers_killed}, nodes lost {tally.nodes_lost}, regained {tally.nodes_regained}"

    def _kill_worker(self) -> bool:
        pids = sorted(pid for node in self._cluster.list_all_nodes() for pid in pids_at_work(node))
        if not pids:
            return False
        pid = pids[self._stream.below(len(pids))]
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self._note("worker killed", pid=pid)
        return True

    def _lose_node(self) -> bool:
        nodes = sorted(filter(pids_at_work, self._cluster.worker_nodes), key=lambda node: node.unique_id)
        if not nodes:
            return False
        node = nodes[self._stream.below(len(nodes))]
        self._cluster.remove_node(node, allow_graceful=False)
        self._note("node lost", node=node.unique_id)
        self._away = True
        return True

    def _wait(self, every: float) -> float:
        return every * (0.5 + self._stream.below(1001) / 1000)

    def _now(self) -> float:
        return time.monotonic() - self._started

    def _note(self, what: str, **more: Any) -> None:
        self.events.append({"seconds": round(self._now(), 2), "what": what, **more})


def pids_at_work(node: Any) -> list[int]:
    """Return the processes of a node of `Cluster` that are at an episode: Ray names them after the running method."""
    (raylet,) = node.all_processes["raylet"]
    children: list[int] = []
    for path in Path(f"/proc/{raylet.process.pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            children += map(int, path.read_text().split())
    return [pid for pid in children if process_title(pid) == "ray::EpisodeActor.run"]


def process_title(pid: int) -> str:
    """Return what a process calls itself, '' if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0 ")
    except OSError:
        return ""


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True, kw_only=True)
class DriverRun:
    """A run of the main job, as seen from outside."""

    exit_code: int
    memory: list[tuple[float, float]]
    """(seconds since the first episode, resident MB) until the last episode."""
    seconds: float
    """From the first episode to the last."""


def follow(command: list[str], n_episodes: int, out: Path, address: str, faults: Faults | None) -> DriverRun:
    """Run `command` on the cluster with `--out out`; what it prints goes to `out`.log.

    While episodes are run, `faults` happen, the driver's memory is read, and progress is shown.
    """
    environment = {**os.environ, "RAY_ADDRESS": address, "PYTHONUNBUFFERED": "1"}
    rows_path, label = out.with_suffix(".jsonl"), out.name
    command = [*command, "--episodes", str(n_episodes), "--out", str(out), "--episode-log", str(rows_path)]
    print(f"{label}: {n_episodes:,} episodes; {out}.log", flush=True)
    with out.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        memory = _watch(process, rows_path, n_episodes, faults, label)
        seconds = memory[-1][0] if memory else 0.0
        return DriverRun(exit_code=process.wait(timeout=STALL_S), memory=memory, seconds=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _watch(
    process: subprocess.Popen[bytes], rows_path: Path, n_episodes: int, faults: Faults | None, label: str
) -> list[tuple[float, float]]:
    """Return samples of the driver's memory; kills it if no episode ends for `STALL_S`."""
    memory: list[tuple[float, float]] = []
    n_done, started, changed = 0, 0.0, time.monotonic()
    progress: WorkProgress | None = None

    def say(line: str) -> None:
        print(f"{line} | {faults.describe()}" if faults else line, flush=True)

    while process.poll() is None and n_done < n_episodes:
        time.sleep(TICK_S)
        n_done, before = n_lines(rows_path) // len(METHODS), n_done
        now = time.monotonic()
        changed = now if n_done > before else changed
        if now - changed > STALL_S:
            print(f"{label}: no episode ended in {STALL_S:.0f} s; the driver is killed", flush=True)
            os.killpg(process.pid, signal.SIGKILL)
            break
        if n_done == 0:
            continue
        if progress is None:
            started = now
            progress = WorkProgress(label, "episodes", n_episodes, done=n_done, say=say)
            if faults:
                faults.start()
        progress.add(n_done - before)
        with suppress(OSError):  # it has ended
            memory.append((round(now - started, 2), resident_mb(process.pid)))
        if faults:
            faults.tick(n_done)
    return memory


def n_lines(path: Path) -> int:
    """Return how many lines a file has, 0 while there is none."""
    return path.read_bytes().count(b"\n") if path.exists() else 0
