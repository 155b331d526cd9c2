"""Fixtures for the tests of rayfs.benchmarks: the real images where there are some, tables decoded once a session."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rayfs.datasets.image_table import ImageTable, load_table
from rayfs.datasets.registry import open_benchmark


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Return a function that finds a folder of real images, or skips the test with the reason."""

    def find(name: str) -> Path:
        root = os.environ.get("RAYFS_DATA")
        if not root or not (Path(root) / name).is_dir():
            pytest.skip(f"needs real images: set RAYFS_DATA (now {root!r}) to the folder that holds '{name}'")
        return Path(root) / name

    return find


@pytest.fixture(scope="session")
def cifar100(real_data: Callable[[str], Path]) -> Path:
    """The folder of the real CIFAR-100 Parquet shards."""
    return real_data("cifar100")


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def split_table(session_cache: Path, request: pytest.FixtureRequest) -> Callable[[str, str], ImageTable]:
    """Return a function that gives the table of a benchmark's split, decoded once a session."""

    def load(name: str, split: str) -> ImageTable:
        data = str(request.getfixturevalue("cifar100")) if name in ("cifar-fs", "fc100") else None
        benchmark = open_benchmark(name, data)
        source = benchmark.source(split, session_cache)
        return load_table(source, session_cache, channels=benchmark.channels, image_size=benchmark.image_size)

    return load
