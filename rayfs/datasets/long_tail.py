"""CIFAR-100-LT: real CIFAR-100 images, of which the training set keeps fewer and fewer from class to class.

Every split has the same classes. Training counts are those of Cao et al., "Learning imbalanced datasets with
label-distribution-aware margin loss", NeurIPS 2019 (LDAM), https://arxiv.org/abs/1906.07413, and of its released code.
"""

from functools import lru_cache
from pathlib import Path

from rayfs.datasets import cifar100
from rayfs.datasets.images import decode
from rayfs.datasets.sources import EncodedImage, ParquetSource, open_parquet
from rayfs.hashing import stable_hash
from rayfs.randomness import RawStream

VALIDATION_PER_CLASS = 50
"""Images a class that choose the epoch and the thresholds, where the long tail leaves as many out (ours)."""

CHOICE_RULE = "cifar100-lt-1"
"""Names how images are chosen; changed whenever that changes."""

IMBALANCES = {"cifar100-lt": 100, "cifar100-lt-50": 50, "cifar100-lt-10": 10}
"""Largest over smallest class of each benchmark."""


def training_counts(imbalance: int, n_classes: int = 100, largest: int = 500) -> list[int]:
    """Return the images of each class c, in the order of CIFAR-100's labels: `int(500 IF^(-c/99))`."""
    return [int(largest * imbalance ** (-c / (n_classes - 1))) for c in range(n_classes)]


def open_cifar100_lt(folder: Path, imbalance: int, split: str, cache_dir: Path) -> ParquetSource:
    """Describe a split of CIFAR-100-LT; the chosen images are written to the cache as one Parquet file, once.

    base: `training_counts`, the first of a shuffle of each class, so that a smaller imbalance has all images of a
    larger one. validation: up to 50 of the next ones; the first class has none, as training takes all 500 of it, the
    next ones few (22 and 45 at 100). test: CIFAR-100's own, 100 a class.

    Deviation: LDAM's code draws the images of a class from numpy's legacy global stream, over rows in the order of the
    file; here the draw is over the pictures in the order of their content keys (`RawStream`), so that every layout of
    CIFAR-100 gives the same images. A picture that is in the training part is in no validation part of its class:
    CIFAR-100 holds a few twice.

    Raises:
        InputError: `folder` has no CIFAR-100 whose training and test images can be told apart.
    """
    if split == "test":
        return cifar100.open_part(folder, "test", cache_dir)
    whole = cifar100.open_part(folder, "train", cache_dir)
    signature = stable_hash([CHOICE_RULE, whole.signature(), imbalance, split, VALIDATION_PER_CLASS])
    target = cache_dir / "converted" / f"cifar100-lt-{imbalance}-{split}-{signature}.parquet"
    if not target.exists():
        _write(target, whole, [image for image, part in _choose(whole, imbalance) if part == split])
    return open_parquet([target], cifar100.LABEL_COLUMN, lambda name: True)


def _choose(whole: ParquetSource, imbalance: int) -> list[tuple[EncodedImage, str]]:
    """Return the training images with the split of each, '' for those in none."""
    images = _keyed(whole, whole.signature())
    counts = training_counts(imbalance, len(whole.classes), cifar100.PART_IMAGES_PER_CLASS["train"])
    parts = [""] * len(images)
    for (label, name), n_train in zip(sorted(whole.classes), counts, strict=True):
        own = [i for i, (image, _) in enumerate(images) if image.class_name == name]
        rows = sorted(own, key=lambda i: images[i][1])
        shuffled = [rows[i] for i in RawStream(f"{CHOICE_RULE}|{label}").sample(len(rows), len(rows))]
        trained = {images[i][1] for i in shuffled[:n_train]}
        left = [i for i in shuffled[n_train:] if images[i][1] not in trained]
        for part, chosen in (("base", shuffled[:n_train]), ("validation", left[:VALIDATION_PER_CLASS])):
            for i in chosen:
                parts[i] = part
    return [(image, part) for (image, _), part in zip(images, parts, strict=True)]


@lru_cache(maxsize=1)  # base and validation come one after the other
def _keyed(whole: ParquetSource, signature: str) -> list[tuple[EncodedImage, bytes]]:
    """Return every image with its content key; `signature` is that of `whole`."""
    return [
        (image, decode(image.encoded, channels=3, image_size=cifar100.IMAGE_SIZE, where=image.where).key)
        for image in whole.read()
    ]


def _write(target: Path, whole: ParquetSource, images: list[EncodedImage]) -> None:
    label_of = {name: label for label, name in whole.classes}
    labels = [label_of[image.class_name] for image in images]
    cifar100.write_parquet(target, [image.encoded for image in images], labels, [n for _, n in sorted(whole.classes)])
