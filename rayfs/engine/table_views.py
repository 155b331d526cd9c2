"""Augmented views of all images of a table, made once: view v of row i is a pure function of (seed, i, v).

Deviation: the released codes draw new views of an image in every episode; here the same V views of an image serve every
episode that it is in. Each episode's accuracy has the same distribution (two draws of the views are compared in
jobs/RESULTS.md), but the features of an image are computed V times and not V times an episode.

N images, V views, D features (or the shape of activations).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from rayfs.datasets.augmentation import (
    Augmentation,
    ViewParameters,
    apply_views,
    draw_views,
    normalize,
    plain_view,
)
from rayfs.datasets.image_table import ImageTable
from rayfs.engine.features import BATCH, embed
from rayfs.randomness import torch_generator

RANGE = BATCH
"""Rows whose views are drawn together, rows `RANGE r` to `RANGE (r + 1)`: one forward pass, whoever asks."""


@dataclass(frozen=True, kw_only=True)
class TableViews:
    """Which views are made of every image."""

    n: int
    """V."""
    seed: int
    """Root seed of the draw."""
    augmentation: Augmentation

    def draw(self, view: int, range_index: int, device: torch.device) -> ViewParameters:
        """Return view number `view` of the `RANGE` rows of a range, drawn on the CPU whatever the device is."""
        generator = torch_generator(self.seed, f"support view {view}", range_index)
        return draw_views(RANGE, self.augmentation, generator).to(device)


def n_ranges(n_rows: int) -> int:
    """Return how many ranges a table of `n_rows` has; the last one may be short."""
    return -(-n_rows // RANGE)


def embed_range(
    table: ImageTable, range_index: int, backbone: nn.Module, mean: tuple[float, ...], std: tuple[float, ...],
    device: torch.device, views: TableViews | None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the rows (n,) of one range and their features: (n, D) of the images, or (n, V, D) of `views` of them.

    Float32; `backbone` may be its first blocks alone, whose activations then take the place of features.
    """
    rows = np.arange(range_index * RANGE, min((range_index + 1) * RANGE, len(table)))
    images = table.take(rows)
    if views is None:
        return rows, embed(backbone, images, lambda x: normalize(plain_view(x), mean, std), device).cpu().numpy()
    parts = []
    for view in range(views.n):
        drawn, augmentation = views.draw(view, range_index, device), views.augmentation

        def prepare(
            x: torch.Tensor, drawn: ViewParameters = drawn, augmentation: Augmentation = augmentation
        ) -> torch.Tensor:
            return normalize(apply_views(x, augmentation, drawn), mean, std)  # x is padded to RANGE rows

        parts.append(embed(backbone, images, prepare, device, batch=RANGE))
    return rows, torch.stack(parts, dim=1).cpu().numpy()
