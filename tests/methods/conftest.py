"""Small worlds: real Omniglot drawings, and synthetic classes that anybody can tell apart."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle_finetuning import VIEWS_SEED
from torch import nn

from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.convolution import kaiming_conv
from rayfs.backbones.split import split
from rayfs.datasets.augmentation import Augmentation, normalize, plain_view
from rayfs.datasets.image_table import ImageTable, TableWriter, load_table
from rayfs.datasets.registry import OMNIGLOT, OMNIGLOT_AUGMENTATION
from rayfs.datasets.sources import open_parquet
from rayfs.engine.bank import BaseBank, embed_table
from rayfs.engine.table_views import TableViews, embed_range, n_ranges
from rayfs.methods.method import Task, World
from rayfs.randomness import torch_generator

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def characters(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    """Return 8 Latin characters of 20 drawings each, 16 x 16 pixels: class c has rows 20 c to 20 c + 19."""
    wanted = {f"Latin/character{number:02d}" for number in range(1, 9)}
    source = open_parquet([OMNIGLOT / "Latin.parquet"], "label", lambda name: name in wanted)
    return load_table(source, tmp_path_factory.mktemp("omniglot"), channels=1, image_size=16)


class Mosaic(nn.Module):
    """A backbone that keeps where things are: two convolutions with batch norm, then the means of 4 x 4 tiles."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        draw = torch_generator(4, "weights")
        self.n_features = 4 * 16
        self.layers = nn.Sequential(
            kaiming_conv(channels, 4, 1, draw), nn.BatchNorm2d(4), kaiming_conv(4, 4, 1, draw), nn.BatchNorm2d(4),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


@pytest.fixture(scope="session")
def make_blobs(tmp_path_factory: pytest.TempPathFactory, make_world) -> Callable[[int], tuple[ImageTable, World]]:
    """Return a function (channels) -> 6 classes, each 12 noisy copies of one 4 x 4 mosaic, and a world of them."""

    def make(channels: int) -> tuple[ImageTable, World]:
        draw = np.random.default_rng(5)
        writer = TableWriter(tmp_path_factory.mktemp("blobs"), channels=channels, image_size=16)
        for c in range(6):
            mosaic = draw.integers(20, 236, (4, 4, channels)).repeat(4, axis=0).repeat(4, axis=1)
            for i in range(12):
                pixels = np.clip(mosaic + draw.normal(0, 8, mosaic.shape), 0, 255)
                writer.add(pixels.astype(np.uint8)[None], [f"class {c}"], [bytes([c, i]) * 8])
        table = writer.finish("blobs")[0]
        return table, make_world(table, Mosaic(channels), Augmentation(crop_padding=1))

    return make


@pytest.fixture(scope="session")
def make_world() -> Callable[..., World]:
    """Return a function that makes a world of base images around a backbone (a narrow Conv-4 unless given).

    `kept`: (frozen blocks, views) of activations that are kept, in float32.
    """

    def make(
        base: ImageTable,
        backbone: nn.Module | None = None,
        augmentation: Augmentation = OMNIGLOT_AUGMENTATION,
        kept: tuple[tuple[int, int], ...] = (),
    ) -> World:
        channels = base.images.shape[3]
        backbone = backbone or warmed_up(Conv4(channels, width=12, generator=torch_generator(1, "weights")))
        backbone = backbone.eval().requires_grad_(False)
        mean, std = (0.8,) * channels, (0.3,) * channels
        features = embed_table(base, backbone, lambda images: normalize(plain_view(images), mean, std), CPU)
        bank = BaseBank(table=base, features=features, path=Path("unused"))
        activations = {}
        for n_blocks, n_views in kept:
            first, _ = split(backbone, n_blocks)
            views = TableViews(n=n_views, seed=VIEWS_SEED, augmentation=augmentation)
            parts = [embed_range(base, i, first, mean, std, CPU, views)[1] for i in range(n_ranges(len(base)))]
            activations[n_blocks, n_views] = BaseBank(table=base, features=np.concatenate(parts), path=Path("unused"))
        return World(
            backbone=backbone, bank=bank, augmentation=augmentation, mean=mean, std=std, device=CPU,
            activations=activations,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def make_task() -> Callable[..., Task]:
    """Return a function that takes the first n_shot images of some classes as support and the next as queries."""

    def make(table: ImageTable, classes: list[int], n_shot: int, n_query: int) -> Task:
        starts = table.offsets[classes]
        support = np.concatenate([np.arange(start, start + n_shot) for start in starts])
        query = np.concatenate([np.arange(start + n_shot, start + n_shot + n_query) for start in starts])
        return Task(
            support_images=table.take(support),
            support_labels=torch.arange(len(classes)).repeat_interleave(n_shot),
            query_images=table.take(query),
            n_way=len(classes),
        )

    return make


def warmed_up(backbone: nn.Module) -> nn.Module:
    """Return `backbone` with running statistics and scales unlike the initial 0 and 1, as after training."""
    draw = torch_generator(2, "warming up")
    for norm in (module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.weight.data.uniform_(0.5, 1.5, generator=draw)
        norm.bias.data.uniform_(-0.3, 0.3, generator=draw)
        norm.running_mean.uniform_(-0.2, 0.2, generator=draw)
        norm.running_var.uniform_(0.5, 1.5, generator=draw)
    return backbone
