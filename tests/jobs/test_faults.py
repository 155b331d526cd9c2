"""The main job on a full disk, a read-only one, with an image that raises, killed before a rename, short of memory.

After each, its rows are those of a run that nothing happened to, and its message says what happened and how to resume.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray.cloudpickle
import torch
from job_lines import Lines

from rayfs.datasets.episode_file import decode_episode_file
from rayfs.datasets.image_table import ImageTable
from rayfs.distributed.pool import EpisodePool
from rayfs.distributed.session import Resources
from rayfs.durable_files import TEMPORARY_SUFFIX
from rayfs.experiments.episodes import run as evaluate
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.episodes.job import run_label_halluc_eval
from rayfs.flags.command_line import run_job
from rayfs.runs.result_buffer import ResultBuffer
from rayfs.runs.rows import Row, scientific_columns
from rayfs.runs.run_directory import EPISODE_FILE, RunDirectory
from rayfs.workers.episode_worker import EpisodeWorker

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
N_EPISODES = 24
QUICK = ["--split", "validation", "--n-way", "5", "--n-query", "3", "--steps", "3", "--support-views", "1"]

MARGIN_BYTES, HEADROOM_BYTES = 4 << 30, 3 << 30
"""How much more memory than now the monitor allows, and how much this machine must have left when it is used up."""


def flags(out: Path, n_episodes: int = N_EPISODES) -> list[str]:
    return [*QUICK, "--episodes", str(n_episodes), "--out", str(out)]


@pytest.fixture(scope="module")
def job(resources: Resources) -> Callable[[Path], int]:
    """Run the main job in this process, on the cluster that all tests share; returns its exit code."""

    def run(out: Path) -> int:
        command = ["python", "jobs/label_halluc_eval.py", *flags(out)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_ADDRESS", "local")
            return run_job(lambda config: run_label_halluc_eval(config, command), EvalConfig, None, flags(out))

    return run


@pytest.fixture(scope="module")
def quiet(job: Callable[[Path], int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("runs") / "quiet"
    assert job(out) == 0
    return out


def rows_of(out: Path) -> list[Row]:
    return RunDirectory(str(out)).rows()


def assert_as_quiet(out: Path, quiet: Path, n_episodes: int = N_EPISODES) -> None:
    """Nothing is lost, nothing counted twice, nothing changed, nothing half-written left."""
    rows = rows_of(out)
    committed = [row for part in (out / "episodes").glob("part-*") for row in ok_rows_of(part)]
    assert len(rows) == 2 * n_episodes == len(committed) == len(set(committed))
    assert scientific_columns([row for row in rows if row.episode < N_EPISODES]) == scientific_columns(rows_of(quiet))
    assert not temporary_files(out)


def ok_rows_of(part: Path) -> list[tuple[int, str]]:
    from pyarrow import parquet

    columns = parquet.read_table(part, columns=["episode", "method", "status"]).to_pylist()
    return [(row["episode"], row["method"]) for row in columns if row["status"] == "ok"]


def temporary_files(out: Path) -> list[Path]:
    return [path for path in out.rglob(".*") if path.name.endswith(TEMPORARY_SUFFIX)]


def mount(folder: Path, options: str) -> None:
    """Mount, or mount anew with other options, a filesystem in memory; skips the test where that is not allowed."""
    if shutil.which("mount") is None:
        pytest.skip("no mount command")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem with room for the run's manifests and about three parts."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=64k")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_room_lets_it_finish(job, quiet, small_disk, monkeypatch, capsys) -> None:
    monkeypatch.setitem(ResultBuffer.__init__.__kwdefaults__, "flush_seconds", 0.0)  # a part for every episode
    out = small_disk / "run"
    assert job(out) == 2
    printed = capsys.readouterr()
    saved = {path: path.read_bytes() for path in (out / "episodes").glob("part-*.parquet")}
    assert printed.err.startswith("error: ") and len(printed.err.splitlines()) == 1, printed.err
    assert f"rows are not saved to {out}/episodes/part-{len(saved):06d}.parquet, " in printed.err
    assert "No space left on device; earlier rows are safe; make room" in printed.err
    assert (
        f"keeps what is finished. Resume with:\n  python jobs/label_halluc_eval.py {' '.join(flags(out))}"
        in printed.out
    )
    assert saved and len(rows_of(out)) == 2 * len(saved) < 2 * N_EPISODES and not temporary_files(out)

    mount(small_disk, "remount,ro")
    assert job(out) == 2
    printed = capsys.readouterr()
    assert f"error: cannot write the run directory {out}: " in printed.err and "Read-only" in printed.err
    assert "workers with" not in printed.out, "refused before any work"

    mount(small_disk, "remount,rw,size=8m")
    assert job(out) == 0
    assert all(path.read_bytes() == content for path, content in saved.items())
    assert_as_quiet(out, quiet)


POISON = 0
"""Row id of the image that raises when a worker takes it; tests set it before the class goes to the workers."""


class PoisonedTable(ImageTable):
    def take(self, rows: np.ndarray) -> torch.Tensor:
        if POISON in rows:
            raise OSError(f"image {POISON} cannot be read: Input/output error")
        return super().take(rows)


class PoisonedWorker(EpisodeWorker):
    def prepare(self) -> str:
        whereabouts = super().prepare()
        self._novel = PoisonedTable(**vars(self._novel))
        return whereabouts


def test_an_image_that_raises_costs_its_episodes_only_and_they_are_tried_again(
    job, quiet, tmp_path, monkeypatch, capsys
) -> None:
    episodes = decode_episode_file((quiet / EPISODE_FILE).read_bytes(), EPISODE_FILE).episodes
    poison = int(episodes[3].query_ids[0, 0])
    poisoned = {each.index for each in episodes if poison in each.query_ids or poison in each.support_ids}
    monkeypatch.setattr(sys.modules[__name__], "POISON", poison)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this module
        patch.setattr(evaluate, "EpisodePool", partial(EpisodePool, worker=PoisonedWorker))
        try:
            assert job(out) == 1
        finally:
            ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    printed = capsys.readouterr().out
    assert f"episode {min(poisoned)}, label-halluc: failed 3 times\nTraceback" in printed
    assert f"OSError: image {poison} cannot be read: Input/output error" in printed
    assert f"{2 * len(poisoned)} rows failed; they count in no figure. Rerun the command" in printed
    assert f"failed {len(poisoned)}\n" in printed, "the progress line counts them"
    rows = rows_of(out)
    failed = [row for row in rows if row.status == "failed"]
    assert {row.episode for row in failed} == poisoned and len(failed) == 2 * len(poisoned)
    assert all(row.attempt == 3 and row.accuracy is None and "OSError: image" in row.error for row in failed)
    others = [row for row in rows_of(quiet) if row.episode not in poisoned]
    assert scientific_columns([row for row in rows if row.status == "ok"]) == scientific_columns(others)
    accuracy = 100 * np.mean([row.accuracy for row in others if row.method == "label-halluc"])
    assert f" {N_EPISODES - len(poisoned)} ({N_EPISODES - len(poisoned)}) │ {accuracy:.2f} ±" in printed

    assert job(out) == 0
    assert f"done {N_EPISODES}/{N_EPISODES}" in capsys.readouterr().out
    assert_as_quiet(out, quiet)


@pytest.fixture
def private_ray() -> Iterator[dict[str, str]]:
    """The environment of a job that starts a Ray of its own; `RAY_TMPDIR` is where that leaves its logs."""
    folder = Path("/tmp") / f"rayfs{os.getpid()}"  # short: socket paths end at 107 characters
    folder.mkdir()
    yield {**os.environ, "RAY_ADDRESS": "local", "PYTHONUNBUFFERED": "1", "RAY_TMPDIR": str(folder)}
    shutil.rmtree(folder, ignore_errors=True)


def test_a_writer_killed_between_write_and_rename_loses_one_part_which_runs_again(
    job, quiet, private_ray, tmp_path
) -> None:
    out, lost = tmp_path / "run", "part-000003.parquet"
    killed = subprocess.run(
        [sys.executable, "tests/jobs/sabotaged_job.py", lost, *flags(out)],
        cwd=ROOT, env=private_ray, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    (unfinished,) = temporary_files(out)
    assert lost in unfinished.name and len(ok_rows_of(unfinished)) == 2, "it was written, and not yet renamed"
    parts = {path: path.read_bytes() for path in (out / "episodes").glob("part-*.parquet")}
    assert len(parts) == 3 and lost not in {path.name for path in parts}
    assert job(out) == 0
    assert all(path.read_bytes() == content for path, content in parts.items())
    assert_as_quiet(out, quiet)


def memory_bytes() -> tuple[int, int]:
    """Return what is used of this machine's memory, and all of it, as Ray's monitor counts them."""
    sizes = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(sizes[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
    return total - available, total


HOG = """
import sys, time
blocks, least_available = [], int(sys.argv[1])
while True:
    with open("/proc/meminfo") as lines:
        available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    if available >= least_available and len(blocks) < 100:
        blocks.append(b"x" * (1 << 26))
    else:
        time.sleep(0.02)
"""
"""Takes memory until fewer than so many bytes are available, 6.25 GiB at most, and holds it."""


@contextmanager
def hog(least_available: int) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", HOG, str(least_available)]) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.mark.long
def test_a_worker_killed_by_the_memory_monitor_loses_nothing_and_the_message_says_so(
    quiet, private_ray, tmp_path
) -> None:
    used, total = memory_bytes()
    limit = used + MARGIN_BYTES
    if limit + HEADROOM_BYTES > total:
        pytest.skip(f"{(total - used) / 2**30:.1f} GiB of memory are free: too few to take {MARGIN_BYTES >> 30} GiB")
    out, n_episodes = tmp_path / "run", 60
    environment = {
        **private_ray,
        "RAY_memory_usage_threshold": f"{limit / total:.6f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    with subprocess.Popen(
        [sys.executable, "jobs/label_halluc_eval.py", *flags(out, n_episodes), "--workers", "1"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        lines = Lines(process)
        try:
            lines.until("done")
            with hog(total - limit - (64 << 20)):
                died = lines.until("the worker")
            lines.until("rows, summary.json")
            assert process.wait(timeout=60) == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert ", attempt 1 of 3: the worker was killed by Ray's memory monitor: " in died
    assert "killed due to the node running low on memory" in died and "lower --workers or --base-batch" in died
    assert "attempt 3" not in "".join(lines.seen), "let go in time"
    assert_as_quiet(out, quiet, n_episodes)
