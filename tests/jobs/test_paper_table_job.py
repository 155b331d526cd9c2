"""A table of the paper as users run it: real CIFAR, resumed, shared with another table, and wrong input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rayfs.experiments.tables.flags import PaperTableConfig
from rayfs.experiments.tables.job import run_paper_table
from rayfs.flags.command_line import run_job

ROOT = Path(__file__).parents[2]
needs_cifar = pytest.mark.skipif(
    "RAYFS_DATA" not in os.environ, reason="RAYFS_DATA does not name the folder that holds cifar100/"
)


@pytest.fixture
def error(capsys: pytest.CaptureFixture[str]):
    def run(*argv: str) -> str:
        code = run_job(lambda config: run_paper_table(config, ["python", "job"]), PaperTableConfig, None, argv)
        captured = capsys.readouterr()
        assert code == 2, captured.out
        assert "Traceback" not in captured.out + captured.err
        return captured.err

    return run


@needs_cifar
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_table_4_runs_only_what_table_3_left(tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_ADDRESS": "local", "RAYFS_CACHE": os.environ.get("RAYFS_CACHE", str(tmp_path))}
    flags = ["--n-shot", "1", "--episodes", "2", "--steps", "1", "--embedding", "rfs-simple", "--workers", "1"]

    def run(table: str) -> str:
        command = [sys.executable, "jobs/paper_table.py", "--table", table, *flags, "--out", str(tmp_path / "tables")]
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    printed = run("3")
    assert "Table 3: what to do with the base set (SKD-GEN1); cifar-fs, 5-way 1-shot" in printed
    assert "Ours took 1 steps in every method that finetunes" in printed
    assert "Ours are on the embedding rfs-simple" in printed
    rows = tmp_path / "tables" / "conv4_cifar_fs_rfs_simple_1shot" / "episodes"
    n_parts = len(list(rows.iterdir()))
    again = run("3")
    assert again.split("Table 3")[1] == printed.split("Table 3")[1] and len(list(rows.iterdir())) == n_parts
    fourth = run("4")
    assert "classifier only" in fourth and "mini-imagenet" in fourth
    for suffix in (".txt", ".md", ".tex"):
        assert (tmp_path / "tables" / f"table_4_cifar-fs_1shot{suffix}").stat().st_size > 300


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--table", "1"], "--table is '1'; expected one of 2"),
        (["--table", "6", "--n-shot", "1"], "--n-shot is 1 but table 6 (associative alignment (SKD-GEN1)) has 5"),
        (["--table", "3", "--episodes", "1"], "--episodes is 1; a paired interval needs at least 2"),
    ],
)
def test_wrong_flags_are_refused(error, tmp_path, flags, message) -> None:
    assert message in error(*flags, "--out", str(tmp_path / "out"))


@needs_cifar
def test_a_table_without_any_embedding_names_the_file_to_give(error, tmp_path) -> None:
    message = error("--table", "3", "--backbone", "resnet12", "--out", str(tmp_path / "out"))
    assert "none is in the package; give --checkpoints DIR with resnet12_cifar_fs_skd_gen1.safetensors" in message
    assert not (tmp_path / "out").exists()
