"""One thread: the tensors are tiny, and on a busy machine OpenMP's barriers take a thousand times the work."""

from pathlib import Path

import numpy as np
import pytest

from rayfs.datasets.image_table import ImageTable, TableWriter


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    """Return 2 classes of 5 random 8 x 8 grey images, in a cache at tmp_path."""
    draw, writer = np.random.default_rng(0), TableWriter(tmp_path, channels=1, image_size=8)
    writer.add(
        draw.integers(0, 256, (10, 8, 8, 1), dtype=np.uint8),
        ["a"] * 5 + ["b"] * 5,
        [bytes([i]) * 16 for i in range(10)],
    )
    return writer.finish("random")[0]
