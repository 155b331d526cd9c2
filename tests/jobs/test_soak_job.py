"""The soak in short, as users run it; and that it refuses what it cannot run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rayfs.errors import InputError
from rayfs.performance.soak_flags import SoakConfig

ROOT = Path(__file__).parents[2]


def soak(out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.run(
        [sys.executable, "jobs/soak.py", "--out", str(out), *flags], cwd=ROOT, env=environment, capture_output=True,
        text=True, timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.ray
@pytest.mark.long
def test_killed_workers_and_a_lost_node_lose_duplicate_and_change_nothing(tmp_path: Path) -> None:
    out = tmp_path / "soak"
    flags = "--episodes 160 --reference-episodes 16 --kill-every 2 --node-every 3 --nodes 1"
    result = soak(out, *flags.split())
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all is right" in result.stdout and "soak: " in result.stdout
    record = json.loads((out / "soak.json").read_text())
    episodes, faults = record["episodes"], record["faults"]
    assert episodes["done"] == episodes["wanted"] == 160 and episodes["compared"] == 16
    assert episodes["lost"] == episodes["duplicated"] == episodes["different"] == episodes["failed"] == 0
    assert min(faults.values()) >= 1 and episodes["retried"] >= 1, "the faults hit episodes"
    assert record["memory"]["peak"] > 50, "the driver's own, in MB"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"episodes": 0}, "--episodes is 0; expected at least 1"),
        ({"nodes": 0}, "--nodes is 0; expected at least 1"),
        ({"kill_every": 0.0}, "--kill-every is 0.0; expected seconds above 0"),
        ({"node_every": float("nan")}, "--node-every is nan; expected seconds above 0"),
        ({"episodes": 8, "reference_episodes": 9}, r"--reference-episodes is 9; expected 1 to 8 \(--episodes\)"),
        ({"seed": -1}, "--seed is -1; expected 0 or more"),
    ],
)
def test_wrong_flags_are_refused(tmp_path: Path, flags: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        SoakConfig(out=tmp_path / "soak", **flags)


def test_a_folder_with_anything_in_it_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    result = soak(tmp_path)
    message = f"error: --out is '{tmp_path}', which is there already; a soak starts afresh: name a new folder\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", message)
