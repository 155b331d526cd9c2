"""A method is one file and one line: `mean_image.py` is put into a copy of rayfs, and one line into its registry.

Job, tuner, report and help then know it, in processes of their own that nothing here tells about it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rayfs.runs.run_directory import RunDirectory

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("mean_image.py")
ANCHOR, LINE = '    "feature_distill",\n', '    "mean_image",\n'
EPISODES = ["--n-way", "4", "--n-query", "3", "--episodes", "2"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a rayfs that has one file and one line more; other rooms are links to the present ones."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "rayfs").mkdir()
    for room in (ROOT / "rayfs").iterdir():
        if room.name not in ("methods", "__pycache__"):
            (folder / "rayfs" / room.name).symlink_to(room)
    (folder / "jobs").symlink_to(ROOT / "jobs")
    methods = folder / "rayfs" / "methods"
    shutil.copytree(ROOT / "rayfs" / "methods", methods, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(FILE, methods)
    registry = methods / "registry.py"
    before = registry.read_text()
    assert before.count(ANCHOR) == 1
    registry.write_text(before.replace(ANCHOR, ANCHOR + LINE))
    return folder


def printed(package: Path, job: str, *flags: str) -> str:
    """Return what a job prints that uses the rayfs in `package`."""
    environment = {**os.environ, "PYTHONPATH": str(package), "RAY_ADDRESS": "local", "PYTHONUNBUFFERED": "1"}
    result = subprocess.run(
        [sys.executable, f"jobs/{job}.py", *flags], cwd=package, env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def finished(package: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the run directory of two episodes with the method, a variant and the baseline, and what was printed."""
    out = tmp_path_factory.mktemp("runs") / "run"
    methods = ("lr", "mean-pixels", "mean-image:contrast=2")
    return out, printed(package, "label_halluc_eval", *EPISODES, "--methods", *methods, "--out", str(out))


def test_the_main_job_runs_it_beside_the_baseline(finished: tuple[Path, str]) -> None:
    out, text = finished
    assert re.search(r"^mean-image +│", text, re.M) and "mean-image: contrast 1.0" in text
    rows = RunDirectory(str(out)).rows()
    names = ("logistic-regression", "mean-image", "mean-image:contrast=2")
    assert {(row.episode, row.method) for row in rows} == {(e, name) for e in (0, 1) for name in names}
    assert all(row.status == "ok" for row in rows)
    plain, squared = ([row.predictions for row in rows if row.method == name] for name in names[1:])
    assert plain == squared, "a power of the distance changes no order of distances"
    assert json.loads((out / "summary.json").read_text())["methods"]["mean-image"]["gain"] is not None


def test_the_report_shows_it(package: Path, finished: tuple[Path, str], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    printed(package, "report", str(finished[0]), "--out", str(page))
    html = page.read_text()
    assert "mean-image:contrast=2" in html and "against logistic-regression" in html


def test_the_tuner_searches_its_space(package: Path, tmp_path: Path) -> None:
    out = tmp_path / "search"
    flags = ("--n-trials", "1", "--grace", "2", "--block", "1", "--out", str(out))
    text = printed(package, "tune", "--method", "mean-image", *EPISODES, *flags)
    assert "contrast 0.5 to 2" in text and "--methods logistic-regression mean-image" in text
    tried = {row.method for row in RunDirectory(str(out)).rows()} - {"logistic-regression"}
    assert "mean-image" in tried and len(tried) == 2
    assert all(name.startswith("mean-image") for name in tried)


def test_help_lists_it_and_its_settings(package: Path) -> None:
    assert "nearest mean of the images themselves" in printed(package, "label_halluc_eval", "--help")
    text = printed(package, "label_halluc_eval", "--help-method", "mean-image")
    assert "contrast" in text and "Exponent of the distances (ours)." in text
