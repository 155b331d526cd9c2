"""CIFAR-100 as few-shot benchmarks use it: train and test images pooled, 600 a class.

Read from a folder of Parquet shards in the Hugging Face layout, or from torchvision's CIFAR100 folder.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rayfs.datasets.sources import ParquetSource, open_parquet
from rayfs.durable_files import written_durably
from rayfs.errors import InputError
from rayfs.hashing import stable_hash

IMAGES_PER_CLASS = 600
PART_IMAGES_PER_CLASS = {"train": 500, "test": 100}
IMAGE_SIZE = 32
N_CLASSES = 100
LABEL_COLUMN = "fine_label"
TORCHVISION_FOLDER = "cifar-100-python"
SUPERCLASSES = Path(__file__).parent / "splits" / "cifar100_superclasses.json"
"""The 20 superclasses of 5 classes each, and groups of superclasses (ours)."""


def open_source(folder: Path, class_names: Sequence[str], cache_dir: Path) -> ParquetSource:
    """Describe the pooled images of `class_names`.

    Raises:
        InputError: `folder` holds neither layout, lacks a class, or a class has other than 600 images.
    """
    if (folder / TORCHVISION_FOLDER).is_dir():
        paths = [_torchvision_as_parquet(folder, cache_dir, ("train", "test"))]
    else:
        paths = _shards(folder)
    _refuse_none(paths, folder)
    wanted = frozenset(class_names)
    source = open_parquet(paths, LABEL_COLUMN, wanted.__contains__)
    if len(source.classes) < len(wanted):
        missing = sorted(wanted - set(source.class_names))
        raise InputError(f"{folder} lacks {len(missing)} of {len(wanted)} classes, among them '{missing[0]}'")
    wrong = [(name, count) for name, count in source.class_counts().items() if count != IMAGES_PER_CLASS]
    if wrong:
        raise InputError(
            f"{folder} has {source.count()} images of these {len(wanted)} classes, expected "
            f"{IMAGES_PER_CLASS * len(wanted)} ({IMAGES_PER_CLASS} a class, but '{wrong[0][0]}' has {wrong[0][1]}): "
            "train and test shards are pooled, is each of them there once?"
        )
    return source


def open_part(folder: Path, part: str, cache_dir: Path) -> ParquetSource:
    """Describe CIFAR-100's own training ('train') or test ('test') images, 500 or 100 of each of the 100 classes.

    Shards belong to the part that their name or their folder's begins with, as Hugging Face names them.

    Raises:
        InputError: `folder` holds neither layout, or the part has other counts.
    """
    if (folder / TORCHVISION_FOLDER).is_dir():
        paths = [_torchvision_as_parquet(folder, cache_dir, (part,))]
    else:
        paths = [path for path in _shards(folder) if path.name.startswith(part) or path.parent.name.startswith(part)]
        if _shards(folder) and not paths:
            raise InputError(
                f"{folder} has Parquet files but none whose name, or whose folder's, begins with '{part}'; name the "
                "shards as Hugging Face does (train-00000-of-00001.parquet, test-00000-of-00001.parquet)"
            )
    _refuse_none(paths, folder)
    source = open_parquet(paths, LABEL_COLUMN, lambda name: True)
    wanted = PART_IMAGES_PER_CLASS[part]
    wrong = [(name, count) for name, count in source.class_counts().items() if count != wanted]
    if wrong or len(source.classes) != N_CLASSES:
        name, count = wrong[0] if wrong else ("every class", wanted)
        raise InputError(
            f"{folder}: the {part} images are {source.count()} of {len(source.classes)} classes ({count} of "
            f"'{name}'), expected {N_CLASSES} classes of {wanted}; is each {part} shard there once, and no other?"
        )
    return source


def _refuse_none(paths: Sequence[Path], folder: Path) -> None:
    if not paths:
        raise InputError(
            f"{folder} holds neither Parquet files (Hugging Face's cifar100) nor torchvision's '{TORCHVISION_FOLDER}'"
        )


def _shards(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.parquet") if _is_shard(path.relative_to(folder), folder))


def _is_shard(path: Path, folder: Path) -> bool:
    """Tell shards from hidden files and from folders; links may lead anywhere: Hugging Face's cache is made of them."""
    return not any(part.startswith(".") for part in path.parts) and not (folder / path).is_dir()


def class_groups() -> dict[str, list[str]]:
    """Return the classes of each superclass (`fish`) and of each group of them (`animals`); `people` is both."""
    content = json.loads(SUPERCLASSES.read_text())
    superclasses: dict[str, list[str]] = content["superclasses"]
    groups = {name: [c for part in parts for c in superclasses[part]] for name, parts in content["groups"].items()}
    return groups | superclasses


def _torchvision_as_parquet(folder: Path, cache_dir: Path, parts: Sequence[str]) -> Path:
    """Rewrite the `parts` ('train', 'test') of torchvision's folder as one Parquet file in the cache, once.

    torchvision compares the MD5 of its two pickles with the published ones before it loads them.
    """
    files = sorted((folder / TORCHVISION_FOLDER).iterdir())
    signature = stable_hash([[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files])
    target = cache_dir / "converted" / f"cifar100-{'-'.join(parts)}-{signature}.parquet"
    if target.exists():
        return target
    from torchvision.datasets import CIFAR100  # seconds to import, and only this layout needs it

    try:
        read = [CIFAR100(str(folder), train=part == "train") for part in parts]
    except RuntimeError as error:
        raise InputError(f"{folder}: torchvision refuses this CIFAR-100 folder ({error}); download it again") from None
    images = [_png(pixels) for part in read for pixels in part.data]
    labels = [label for part in read for label in part.targets]
    write_parquet(target, images, labels, read[0].classes)
    return target


def write_parquet(target: Path, images: Sequence[bytes], labels: Sequence[int], class_names: Sequence[str]) -> None:
    """Write encoded images with their labels as one Parquet file in the Hugging Face layout, whole or not at all."""
    features = {"img": {"_type": "Image"}, LABEL_COLUMN: {"_type": "ClassLabel", "names": list(class_names)}}
    table = pa.table({"img": [{"bytes": image, "path": None} for image in images], LABEL_COLUMN: list(labels)})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    with written_durably(target) as temporary:  # two processes may convert at once
        pq.write_table(table.replace_schema_metadata(metadata), temporary)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
