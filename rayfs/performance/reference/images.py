"""Views as the released codes make them: Pillow and torchvision, image by image, in the processes of a DataLoader.

Randomness is PyTorch's global one. B images, H x W pixels, C channels.
"""

import multiprocessing
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from rayfs.datasets.augmentation import Augmentation
from rayfs.datasets.image_table import ImageTable
from rayfs.engine.machine import process_cpu_s
from rayfs.engine.stages import stage

IDLE_S = 0.2
"""Loader processes that use no processor for so long have filled their queues."""


class PillowImages(Dataset[tuple[Tensor, int]]):
    """Base images with a transform; gives (view, row)."""

    def __init__(self, table: ImageTable, transform: transforms.Compose) -> None:
        self._images, self._transform = table.images, transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self._transform(as_pillow(self._images[row])), row


def as_pillow(image: np.ndarray | Tensor) -> Image.Image:
    """Return an image (H, W, C) uint8 as Pillow has it."""
    pixels = np.asarray(image)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def make_transforms(
    config: Augmentation, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[transforms.Compose, transforms.Compose]:
    """Return torchvision's transforms of a random and of a plain view of one image."""
    parts: list[Any] = []
    if config.crop_padding:
        parts.append(transforms.RandomCrop(size, padding=config.crop_padding, fill=config.fill))
    if config.rotation_deg or config.scale or config.shear_deg:
        parts.append(
            transforms.RandomAffine(
                config.rotation_deg, scale=(1 - config.scale, 1 + config.scale), shear=config.shear_deg,
                fill=config.fill, interpolation=transforms.InterpolationMode.BILINEAR,
            )
        )  # fmt: skip
    if config.jitter:
        parts.append(transforms.ColorJitter(config.jitter, config.jitter, config.jitter))
    if config.flip:
        parts.append(transforms.RandomHorizontalFlip())
    tensor = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    return transforms.Compose([*parts, *tensor]), transforms.Compose(tensor)


@contextmanager
def loaded(
    table: ImageTable, transform: transforms.Compose, batch: int, n_loaders: int, *, shuffle: bool, settled: str | None
) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """Yield batches of (views (B, C, H, W), rows (B,)) without end, shuffled ones without the last short one.

    Arguments:
        n_loaders: processes; 0: this one loads.
        settled: a stage; wait before the first batch and after the last until the loaders have filled their queues, and
            count the processor time of the latter for it, so that every batch is paid for once. None: just go on.
    """
    loader = DataLoader(
        PillowImages(table, transform), batch_size=batch, shuffle=shuffle, drop_last=shuffle, num_workers=n_loaders,
        multiprocessing_context="fork" if n_loaders else None,
    )  # fmt: skip
    epoch = iter(loader)
    if settled and n_loaders:
        settle()
    yield _endless(loader, epoch)
    if settled and n_loaders:
        with stage(settled, wall=False):
            settle()


def _endless(
    loader: DataLoader[tuple[Tensor, int]], epoch: Iterator[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from epoch
        epoch = iter(loader)


def settle() -> None:
    """Wait until the children of this process use no processor."""
    before, since = children_cpu_s(), time.monotonic()
    while time.monotonic() - since < IDLE_S:
        time.sleep(0.02)
        if (now := children_cpu_s()) > before:
            before, since = now, time.monotonic()


def children_cpu_s() -> float:
    """Return the processor seconds of the children of this process, living and dead."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = [process.pid for process in multiprocessing.active_children()]
    return ended.ru_utime + ended.ru_stime + sum(process_cpu_s(pid) for pid in living if pid is not None)
