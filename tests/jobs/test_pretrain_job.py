"""Embedding learning as users run it: a process of its own, real Ray Train, real images, real kills."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rayfs.backbones.names import EXACT_NAMES
from rayfs.training.objectives.registry import OBJECTIVES
from rayfs.training.training_state import read_state, state_path

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the workers in /proc")
QUICK = [
    "--benchmark", "omniglot", "--image-size", "20", "--epochs", "4", "--lr", "0.02", "--validation-episodes", "10",
    "--threads", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = str(tmp_path_factory.mktemp("cache"))
    return {**os.environ, "RAY_ADDRESS": "local", "RAYFS_CACHE": cache, "PYTHONUNBUFFERED": "1"}


def command(out: Path, *flags: str) -> list[str]:
    return [sys.executable, "jobs/pretrain.py", *QUICK, "--out", str(out), *flags]


def run(out: Path, environment: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(out, *flags), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """The checkpoint of an uninterrupted training in one process, without Ray."""
    out = tmp_path_factory.mktemp("runs") / "whole.safetensors"
    result = run(out, environment, "--workers", "0")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "epoch 4/4 | loss" in result.stdout and "ETA" in result.stdout and "validation 5-way 1-shot" in result.stdout
    return out


def test_files_beside_the_checkpoint_tell_the_story(whole: Path) -> None:
    names = {path.name for path in whole.parent.iterdir()}
    assert names == {"whole.safetensors", "whole.json", "whole.curve.parquet", "whole.curve.svg", ".whole.lock"}
    metadata = json.loads(whole.with_suffix(".json").read_text())["metadata"]
    assert metadata["complete"] and len(metadata["curve"]) == 4
    assert "kept: epoch" in whole.with_suffix(".curve.svg").read_text()


def worker_processes(cache_dir: str) -> list[int]:
    """Return the process ids of the Ray Train workers of the runs that use `cache_dir`."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            is_worker = folder.name.isdigit() and b"RayTrainWorker" in (folder / "cmdline").read_bytes()
            if is_worker and f"RAYFS_CACHE={cache_dir}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@NEEDS_PROC
@pytest.mark.parametrize(
    ("signal_number", "exit_code"), [(signal.SIGKILL, -9), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long)]
)
def test_training_stopped_in_epoch_3_resumes_to_the_weights_of_an_uninterrupted_one(
    whole, environment, tmp_path, signal_number, exit_code
) -> None:
    """Stopped over Ray Train, finished without it, against a process without it: the same loop, the same bits."""
    out = tmp_path / "a.safetensors"
    with subprocess.Popen(command(out), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 2/4"):
                break
        time.sleep(0.3)
        orphans = worker_processes(environment["RAYFS_CACHE"]) if signal_number == signal.SIGKILL else []
        process.send_signal(signal_number)
        for orphan in orphans:  # the machine dies; alone, workers would notice only after some seconds
            os.kill(orphan, signal.SIGKILL)
        printed = process.stdout.read()
        assert process.wait(timeout=60) == exit_code
    if exit_code > 0:
        assert "finished epochs are kept. Resume with:" in printed and str(out) in printed
    state = read_state(state_path(out))
    assert state is not None
    finished = len(state.curve)
    # Ctrl-C has to reach the workers through Ray: on a busy machine they may finish epoch 3 before.
    assert finished == 2 or (finished == 3 and signal_number == signal.SIGINT), "it was stopped in epoch 3"
    result = run(out, environment, "--workers", "0")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"resuming after epoch {finished} of 4" in result.stdout
    assert out.read_bytes() == whole.read_bytes()
    assert not state_path(out).exists()


@NEEDS_PROC
@pytest.mark.long
def test_worker_of_two_killed_in_mid_epoch_is_replaced_and_changes_nothing(whole, environment, tmp_path) -> None:
    """On a distillation, whose teacher is given by a relative path: Ray's workers run in a folder of their own."""
    out, undisturbed = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    teacher = os.path.relpath(whole, ROOT)
    flags = ("--workers", "2", "--epochs", "3", "--objective", "rfs-distill", "--teacher", teacher)
    with subprocess.Popen(
        command(out, *flags), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 1/3"):
                break
        workers = worker_processes(environment["RAYFS_CACHE"])
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        printed = process.stdout.read()
        assert process.wait(timeout=200) == 0
    assert "a worker failed or died; attempt 2" in printed and "resuming after epoch" in printed
    assert run(undisturbed, environment, *flags).returncode == 0
    assert out.read_bytes() == undisturbed.read_bytes()
    endings = {path.suffix for path in tmp_path.iterdir()}
    assert endings == {".safetensors", ".json", ".parquet", ".svg", ".lock"}, "nothing of Ray's is left"


def test_finished_training_is_not_done_again(whole, environment) -> None:
    before = whole.stat().st_mtime_ns
    result = run(whole, environment, "--workers", "0")
    assert result.returncode == 0 and "nothing to do" in result.stdout
    assert whole.stat().st_mtime_ns == before


def test_loss_that_explodes_is_one_clear_error(environment, tmp_path) -> None:
    result = run(tmp_path / "a.safetensors", environment, "--lr", "1e30", "--workers", "0")
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert result.stderr.startswith("error: the loss of epoch 1, step ")
    assert "the step's images are the rows" in result.stderr and "Lower --lr (it is 1e+30)" in result.stderr


def test_help_answers_within_a_second_of_processor_time() -> None:
    before = os.times()
    result = subprocess.run(
        [sys.executable, "jobs/pretrain.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert "--teacher" in result.stdout and used < 1.0
    for name in (*EXACT_NAMES, *OBJECTIVES):
        assert name in result.stdout
