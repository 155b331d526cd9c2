"""Every objective on small coloured pictures, with what a step of it needs; a worker of two that share a batch."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.heads import linear
from rayfs.datasets.augmentation import Augmentation
from rayfs.datasets.registry import Benchmark, photo_augmentation
from rayfs.randomness import torch_generator
from rayfs.training.objective import Networks
from rayfs.training.objectives.cosine.loss import cosine
from rayfs.training.objectives.cross_entropy.loss import CrossEntropy
from rayfs.training.objectives.ier_distill.loss import IerDistill
from rayfs.training.objectives.ier_gen0.loss import IerGen0
from rayfs.training.objectives.rfs_distill.loss import RfsDistill
from rayfs.training.objectives.skd_gen0.loss import SkdGen0
from rayfs.training.objectives.skd_gen1.loss import SkdGen1

N_CLASSES, N_IMAGES, SIZE, WIDTH = 5, 20, 16, 6
COUNTS = (9, 5, 3, 2, 1)
"""Images of each class, for balanced softmax."""

CONTRAST = {"gamma": 0.7, "negatives": 8, "memory_momentum": 0.9, "contrast_temperature": 0.5}
DISTILLATION = {"ce_weight": 0.3, "kd_weight": 0.8, "temperature": 4.0}
"""Weights that differ from each other and from 1, so that none can be swapped or forgotten."""

NAMES = (
    "cross-entropy", "rotations", "rfs-distill", "skd-gen0", "skd-gen1", "ier-gen0", "ier-distill", "cosine",
    "balanced-softmax",
)  # fmt: skip
DISTILLED = ("rfs-distill", "skd-gen1", "ier-distill")
VIEWS_AN_IMAGE = {"rotations": 4, "skd-gen0": 4, "skd-gen1": 2, "ier-gen0": 16, "ier-distill": 16}


def photos(augmentation: Augmentation | None = None, size: int = SIZE) -> Benchmark:
    return Benchmark(
        name="photos",
        image_size=size,
        channels=3,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.25, 0.3),
        augmentation=augmentation or photo_augmentation(size),
        sources={},
    )


def backbone(stream: str = "backbone") -> Conv4:
    return Conv4(3, WIDTH, generator=torch_generator(0, stream))


def teacher() -> Networks:
    """Return networks that every distilling objective can learn from."""
    heads = ier_gen0(stream="teacher").networks.heads
    return Networks(backbone("teacher"), dict(heads.items()))


def ier_gen0(n_images: int = N_IMAGES, stream: str = "heads", **changes: Any) -> IerGen0:
    generator = torch_generator(0, stream)
    return IerGen0(backbone(), photos(), N_CLASSES, n_images, **{**CONTRAST, **changes}, generator=generator)


def create(name: str, with_teacher: Networks | None = None) -> Any:
    """Return the objective `name`, always with the same initial weights."""
    generator, taught = torch_generator(0, "heads"), with_teacher or teacher()
    match name:
        case "cross-entropy" | "rotations":
            return CrossEntropy(backbone(), photos(), N_CLASSES, name == "rotations", generator=generator)
        case "rfs-distill":
            return RfsDistill(backbone(), taught, photos(), N_CLASSES, **DISTILLATION, generator=generator)
        case "skd-gen0":
            return SkdGen0(backbone(), photos(), N_CLASSES, 2.0, generator=generator)
        case "skd-gen1":
            return SkdGen1(taught, photos(), 0.1, 2.0)
        case "ier-gen0":
            return ier_gen0()
        case "ier-distill":
            return IerDistill(
                backbone(), taught, photos(), N_CLASSES, N_IMAGES, **CONTRAST, **DISTILLATION, generator=generator
            )
        case "cosine":
            return cosine(backbone(), photos(), N_CLASSES, 16.0, generator=generator)
        case "balanced-softmax":
            return cosine(backbone(), photos(), N_CLASSES, 16.0, COUNTS, generator=generator)
    raise AssertionError(name)


def normal(*shape: int, stream: str) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, stream))


def images(n: int, size: int = SIZE) -> Tensor:
    return torch.randint(256, (n, size, size, 3), generator=torch_generator(0, "images"), dtype=torch.uint8)


def labels(n: int) -> Tensor:
    return torch.arange(n) % N_CLASSES


def ier_outputs(n: int, step: int = 0, kind: str = "student") -> dict[str, Tensor]:
    """Return made-up outputs of 16 views of `n` images."""
    widths = {"features": WIDTH, "classifier": N_CLASSES, "eq_head": 16, "inv_head": 64}
    return {name: normal(16 * n, width, stream=f"{kind} {name} {step}") for name, width in widths.items()}


BATCHES = (torch.tensor([3, 0, 7, 5]), torch.tensor([5, 1, 3, 9]))
"""Rows of two steps; 3 and 5 come back."""


def train_memory(mine: slice) -> tuple[Tensor, list[Tensor]]:
    """Return the memory after both steps, and the losses, of the worker that has part `mine` of every batch."""
    objective, losses = ier_gen0(), []
    for step, rows in enumerate(BATCHES):
        draws = objective.draw(rows, torch_generator(0, "views", step)).part(mine)
        outputs = {
            name: output.view(16, len(rows), -1)[:, mine].flatten(0, 1)
            for name, output in ier_outputs(len(rows), step).items()
        }
        losses.append(objective.loss(outputs, {}, labels(len(rows))[mine], rows[mine], draws).loss)
    return objective.state()["memory"], losses


def memory_of_one_of_two(rank: int, folder: Path) -> None:
    """Be worker `rank` of two; leaves what `train_memory` returns in `folder`."""
    torch.set_num_threads(1)
    meeting_point = f"file://{folder / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=meeting_point, rank=rank, world_size=2)
    try:
        torch.save(train_memory(slice(2 * rank, 2 * rank + 2)), folder / f"{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


class WithDropout(nn.Module):
    """A backbone of one layer and dropout."""

    def __init__(self, dropout: nn.Module) -> None:
        super().__init__()
        self.n_features, self.dropout = 3, dropout
        self.layer = linear(3, 3, torch_generator(0, "layer"))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.dropout(x).mean((2, 3)))
