"""View v of row i is a pure function of (seed, i, v)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rayfs.backbones.conv4 import Conv4
from rayfs.datasets.augmentation import Augmentation, apply_views, normalize
from rayfs.datasets.image_table import ImageTable, TableWriter
from rayfs.engine.bank import bank_path
from rayfs.engine.table_views import RANGE, TableViews, embed_range, n_ranges
from rayfs.randomness import torch_generator

CPU = torch.device("cpu")
AUGMENTATION = Augmentation(crop_padding=2, jitter=0.4, flip=True, rotation_deg=10.0)
N_ROWS = RANGE + 40


@pytest.fixture(scope="module")
def backbone() -> torch.nn.Module:
    return Conv4(1, width=4, generator=torch_generator(0, "weights")).eval().requires_grad_(False)


def table_of(n_rows: int, cache_dir: Path) -> ImageTable:
    """Return one class of `n_rows` random images; a longer table begins with the rows of a shorter one."""
    images = np.random.default_rng(0).integers(0, 256, (N_ROWS, 16, 16, 1), dtype=np.uint8)
    writer = TableWriter(cache_dir, channels=1, image_size=16)
    writer.add(images[:n_rows], ["a"] * n_rows, [i.to_bytes(16, "big") for i in range(n_rows)])
    return writer.finish(f"{n_rows}")[0]


def features(table: ImageTable, backbone: torch.nn.Module, n: int, seed: int = 0) -> np.ndarray:
    views = TableViews(n=n, seed=seed, augmentation=AUGMENTATION)
    parts = [embed_range(table, r, backbone, (0.5,), (0.2,), CPU, views) for r in range(n_ranges(len(table)))]
    assert np.array_equal(np.concatenate([rows for rows, _ in parts]), np.arange(len(table)))
    return np.concatenate([part for _, part in parts])


def test_a_view_does_not_depend_on_the_other_rows_and_views(backbone, tmp_path) -> None:
    everything = features(table_of(N_ROWS, tmp_path), backbone, n=3)
    assert everything.shape == (N_ROWS, 3, 4) and everything.dtype == np.float32
    for n_rows in (7, RANGE, RANGE + 1):
        assert np.array_equal(features(table_of(n_rows, tmp_path), backbone, n=2), everything[:n_rows, :2])


def test_views_differ_between_seeds_views_and_rows(backbone, tmp_path) -> None:
    table = table_of(N_ROWS, tmp_path)
    first, other = features(table, backbone, n=2), features(table, backbone, n=2, seed=1)
    assert (first != other).any(axis=2).all()
    assert (first[:, 0] != first[:, 1]).any(axis=1).all()
    views = TableViews(n=1, seed=0, augmentation=AUGMENTATION)
    assert not torch.equal(views.draw(0, 0, CPU).factors, views.draw(0, 1, CPU).factors)


def test_features_are_those_of_each_view_alone(backbone, tmp_path) -> None:
    table = table_of(N_ROWS, tmp_path)
    found = features(table, backbone, n=2)
    views = TableViews(n=2, seed=0, augmentation=AUGMENTATION)
    for row in (0, 5, RANGE - 1, RANGE, N_ROWS - 1):
        for view in range(2):
            drawn = views.draw(view, row // RANGE, CPU).part(slice(row % RANGE, row % RANGE + 1))
            image = normalize(apply_views(table.take(np.array([row])), AUGMENTATION, drawn), (0.5,), (0.2,))
            np.testing.assert_allclose(found[row, view], backbone(image)[0].numpy(), rtol=1e-4, atol=1e-5)


def test_without_augmentation_every_view_is_the_image(backbone, tmp_path) -> None:
    table = table_of(9, tmp_path)
    views = TableViews(n=2, seed=0, augmentation=Augmentation())
    _, plain = embed_range(table, 0, backbone, (0.5,), (0.2,), CPU, None)
    _, viewed = embed_range(table, 0, backbone, (0.5,), (0.2,), CPU, views)
    assert plain.shape == (9, 4)
    for view in range(2):
        np.testing.assert_allclose(viewed[:, view], plain, rtol=1e-5, atol=1e-6)


def test_the_file_is_named_by_all_that_the_views_depend_on(tmp_path) -> None:
    given = ("table", "conv4", "weights", (0.5,), (0.2,), "cpu")
    settings = [
        None,
        TableViews(n=5, seed=0, augmentation=AUGMENTATION),
        TableViews(n=6, seed=0, augmentation=AUGMENTATION),
        TableViews(n=5, seed=1, augmentation=AUGMENTATION),
        TableViews(n=5, seed=0, augmentation=Augmentation()),
    ]
    assert len({bank_path(tmp_path, *given, views) for views in settings}) == 5
    assert bank_path(tmp_path, *given, None) == bank_path(tmp_path, *given)
    blocks = {bank_path(tmp_path, *given, settings[1], n_blocks) for n_blocks in (None, 1, 2)}
    assert len(blocks) == 3 and bank_path(tmp_path, *given, settings[1]) in blocks
