"""What the steps of an episode see: views of its support set and, for most methods, of base images.

Before each step the host says which images it is about; the step itself reads them and makes the views, on the device
from end to end, so that it can be captured once and replayed. B base images and V support views a step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rayfs.backbones.split import split
from rayfs.engine.row_input import IndexInput, RowInput
from rayfs.engine.stages import stage
from rayfs.methods.finetuning.base_rows import RowSampler
from rayfs.methods.finetuning.settings import FinetuneSettings
from rayfs.methods.frozen import tile_support
from rayfs.methods.method import Task, World
from rayfs.randomness import EpisodeRandomness


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """What one step sees, all of it on the device."""

    support_x: Tensor
    """(V, C, H, W)."""
    support_labels: Tensor
    """(V,) int64."""
    base_rows: Tensor
    """(B,) int64 rows of the base table; empty for methods without base images."""
    base_x: Tensor
    """(B, C, H, W), a view of each.

    With `frozen_views` both hold activations of views behind the frozen blocks, and the network that sees them is the
    rest.
    """


class Batches:
    """The batches of an episode, one after the other.

    Arguments:
        base_rows: (n,) the base images to draw from; empty for none.
        b: B.
    """

    def __init__(
        self, task: Task, world: World, randomness: EpisodeRandomness, settings: FinetuneSettings,
        base_rows: np.ndarray, b: int,
    ) -> None:  # fmt: skip
        images, labels = tile_support(task, settings.step_views)
        images, self._labels = images.to(world.device), labels.to(world.device)
        self._base_rows, self._b = base_rows, b
        if b:
            self._base_sampler = RowSampler(len(base_rows), b, randomness.generator("base rows"))
        self._all_support = settings.support_batch is None or settings.support_batch >= len(labels)
        n_support = len(labels) if self._all_support else settings.support_batch
        assert n_support is not None
        self._support_sampler = RowSampler(len(labels), n_support, randomness.generator("support rows"))
        self._rows, self._chosen = IndexInput(b, world.device), IndexInput(n_support, world.device)
        self.generator = randomness.generator("finetuning views", world.device)
        """On the device; makes the views."""
        self._views: FreshViews | KeptViews = (
            KeptViews(images, world, randomness, settings, self.generator, b, n_support)
            if settings.frozen_views
            else FreshViews(images, world, self.generator, b)
        )

    def load(self) -> None:
        """Draw what the next step is about, and put it where the step finds it."""
        drawn = self._base_sampler.draw().numpy() if self._b else np.empty(0, dtype=np.int64)
        rows = torch.from_numpy(self._base_rows[drawn])
        chosen = torch.arange(len(self._labels)) if self._all_support else self._support_sampler.draw()
        with stage("augmentation"):
            if self._b:
                self._rows.load(rows)
            if not self._all_support:
                self._chosen.load(chosen)
            self._views.load(rows, chosen)

    def read(self) -> Batch:
        """Return the batch that was loaded last; its views are new ones every time."""
        chosen = slice(None) if self._all_support else self._chosen.read()
        with stage("augmentation"):
            base_x = self._views.base(self._rows.read()) if self._b else torch.empty(0, device=self._labels.device)
            support_x = self._views.support(chosen)
        return Batch(
            support_x=support_x, support_labels=self._labels[chosen], base_rows=self._rows.read(), base_x=base_x
        )


class FreshViews:
    """Makes a new view of each image whenever it is asked."""

    def __init__(self, images: Tensor, world: World, generator: torch.Generator, b: int) -> None:
        self._images, self._world, self._generator = images, world, generator
        self._base = world.bank.image_input(world.device, b) if b else None

    def load(self, rows: Tensor, chosen: Tensor) -> None:
        """Fetch the base images of the next step."""
        if self._base is not None:
            self._base.load(rows.numpy())

    def base(self, rows: Tensor) -> Tensor:
        """Return views of the base images that were loaded, `rows` (B,) on the device."""
        assert self._base is not None
        return self._world.views(self._base.read(rows), self._generator)

    def support(self, chosen: slice | Tensor) -> Tensor:
        """Return views of support images."""
        return self._world.views(self._images[chosen], self._generator)


class KeptViews:
    """Draws one of the kept views of each image: activations behind the frozen blocks.

    Those of the support set are computed here, once an episode; those of base images are in the world.
    """

    @torch.no_grad()
    def __init__(
        self, images: Tensor, world: World, randomness: EpisodeRandomness, settings: FinetuneSettings,
        generator: torch.Generator, b: int, n_support: int,
    ) -> None:  # fmt: skip
        frozen, _ = split(world.backbone, settings.frozen_blocks)
        self._n_views = settings.frozen_views
        self._support = torch.stack(
            [forward(frozen, world.views(images, generator), settings.precision) for _ in range(self._n_views)]
        )
        self._draws = randomness.generator("kept views")
        self._base = None
        if b:
            kept = world.activations[settings.frozen_blocks, settings.frozen_views]
            self._base = RowInput(kept.flat_views(), None, world.device, b)
        self._support_views = IndexInput(n_support, world.device)
        self._places = torch.arange(len(images), device=world.device)

    def load(self, rows: Tensor, chosen: Tensor) -> None:
        """Draw the views of the next step and fetch those of base images."""
        if self._base is not None:
            self._base.load((rows * self._n_views + self._drawn(len(rows))).numpy())
        self._support_views.load(self._drawn(len(chosen)))

    def base(self, rows: Tensor) -> Tensor:
        """Return activations of the base images that were loaded, `rows` (B,) on the device."""
        assert self._base is not None
        return self._base.read(rows).float()

    def support(self, chosen: slice | Tensor) -> Tensor:
        """Return activations of support images."""
        return self._support[self._support_views.read(), self._places[chosen]]

    def _drawn(self, n: int) -> Tensor:
        return torch.randint(self._n_views, (n,), generator=self._draws)


def forward(backbone: Callable[[Tensor], Tensor], images: Tensor, precision: str) -> Tensor:
    """Return the features (n, D) float32 of (n, C, H, W), computed under bf16 autocast where `precision` says so."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return backbone(images).float()
