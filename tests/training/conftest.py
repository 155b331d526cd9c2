"""A benchmark of a few Omniglot characters whose test classes cannot be opened."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rayfs.datasets.image_table import ImageTable, load_table
from rayfs.datasets.registry import OMNIGLOT, OMNIGLOT_AUGMENTATION, Benchmark
from rayfs.datasets.sources import Source, open_parquet


def _some_characters(alphabet: str, n: int) -> Callable[[Path], Source]:
    wanted = {f"{alphabet}/character{number:02d}" for number in range(1, n + 1)}
    return lambda cache_dir: open_parquet([OMNIGLOT / f"{alphabet}.parquet"], "label", lambda name: name in wanted)


def _never(cache_dir: Path) -> Source:
    raise AssertionError("pretraining opened the test classes")


@pytest.fixture(scope="session")
def benchmark() -> Benchmark:
    """Return 8 base and 6 validation characters of 20 drawings each, 16 x 16 pixels."""
    return Benchmark(
        name="characters",
        image_size=16,
        channels=1,
        mean=(0.92,),
        std=(0.2,),
        augmentation=OMNIGLOT_AUGMENTATION,
        sources={"base": _some_characters("Latin", 8), "validation": _some_characters("Greek", 6), "test": _never},
    )


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def base(benchmark: Benchmark, cache_dir: Path) -> ImageTable:
    return load_table(benchmark.source("base", cache_dir), cache_dir, channels=1, image_size=16)


@pytest.fixture(scope="session")
def validation(benchmark: Benchmark, cache_dir: Path) -> ImageTable:
    return load_table(benchmark.source("validation", cache_dir), cache_dir, channels=1, image_size=16)
