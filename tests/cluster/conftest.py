"""What the files of `cluster/` must agree on: the Ray that pyproject.toml pins, and the flags of the job."""

import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.flags.parsing import parse

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def ray_version() -> str:
    """The one Ray of every node."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return next(re.fullmatch(r"ray\[.*\]==(.+)", line)[1] for line in dependencies if line.startswith("ray["))


@pytest.fixture(scope="session")
def parse_job() -> Callable[[str], EvalConfig]:
    """What parses a command line `... python [/home/ray/rayfs/]jobs/label_halluc_eval.py FLAGS` as the job does."""

    def parsed(command: str) -> EvalConfig:
        words = shlex.split(command, comments=True)
        script = words.index("python") + 1
        assert words[script].removeprefix("/home/ray/rayfs/") == "jobs/label_halluc_eval.py"
        return parse(EvalConfig, words[script + 1 :])

    return parsed
