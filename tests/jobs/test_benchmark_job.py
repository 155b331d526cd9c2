"""The benchmark as users run it, on Omniglot with a step or two of everything."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
QUICK = [
    "--backbone", "conv4-32", "--rounds", "1", "--measured-steps", "2", "--measured-batches", "1", "--workers", "1",
    "--compared-steps", "2", "--naive-threads", "1", "--naive-loaders", "0", "--episodes", "20",
]  # fmt: skip


@pytest.mark.ray
@pytest.mark.long
def test_the_job_measures_both_sides_and_writes_rows_and_a_figure(tmp_path: Path) -> None:
    measures = ["--measure", "ratio", "scaling", "profile", "sweep", "driver"]
    command = [sys.executable, "jobs/benchmark.py", *QUICK, *measures, "--out", str(tmp_path)]
    result = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "RAY_ADDRESS": "local"}, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    printed = result.stdout
    assert "random weights" in printed and "ratio naive / side, wall" in printed
    assert "same prediction for 150 of 150 queries" in printed and "efficiency" in printed and "n_shot 5" in printed
    timings = pq.read_table(tmp_path / "timings.parquet").to_pylist()
    assert [row["side"] for row in timings] == ["naive", "engine float32", "engine bf16"]
    for row in timings:
        stages = [value for name, value in row.items() if name.endswith("_wall_s") and value is not None]
        assert sum(stages) == pytest.approx(row["episode_s"] * row["workers"]) and row["forward_wall_s"] > 0
        assert row["whole_steps"] == 40 and row["measured_steps"] == 2 and row["gflops_per_s"] > 0
    assert (tmp_path / "timings.svg").read_text().startswith("<svg")
    assert "aten::convolution_backward" in printed and "of the worker's matmul peak" in printed
    operations = pq.read_table(tmp_path / "profile.parquet").to_pylist()
    assert {row["precision"] for row in operations} == {"float32", "bf16"}
    assert all(row["ms_per_step"] >= 0 and row["calls_per_step"] > 0 for row in operations)
    assert (tmp_path / "profile-bf16.json.gz").stat().st_size > 1000
    sweep = {row["setting"]: row for row in pq.read_table(tmp_path / "sweep.parquet").to_pylist()}
    assert sweep["n_way 20"]["images"] == 4 * sweep["n_way 5"]["images"]
    (driver,) = pq.read_table(tmp_path / "driver.parquet").to_pylist()
    assert driver["driver, processor ms"] > 0 and driver["bytes to a worker"] > 100


def test_help_is_quick_and_wrong_flags_are_refused() -> None:
    result = subprocess.run(
        [sys.executable, "jobs/benchmark.py", "--rounds", "0"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2 and result.stderr == "error: --rounds is 0; expected at least 1\n"
