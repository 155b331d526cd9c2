"""ImageTable: decoded images of one split in one memory-mapped array, in an order that depends on content alone.

Rows are sorted by (class name, content key), so that the same pictures give the same row ids, and hence the same
episodes, whether they came from Parquet shards in any order, from a folder, or through Ray Data on many machines.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rayfs.cache import share_cache, touch
from rayfs.datasets.images import DECODE_RULE, KEY_BYTES, decode
from rayfs.datasets.row_files import RowFile, arrange, gather
from rayfs.datasets.sources import Source
from rayfs.durable_files import write_durably
from rayfs.errors import InputError
from rayfs.hashing import stable_hash
from rayfs.json_text import parse_json


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTable:
    """Decoded images of the classes of one split.

    Arguments:
        images: (N, H, W, C) uint8, a read-only memory map shared by all processes of a machine.
        offsets: (n_classes + 1,) int64; the rows of class c are `offsets[c]:offsets[c + 1]`.
        class_names: names of the classes, sorted.
        fingerprint: hash of class names, contents, image size and decoding rule; names the table everywhere.
        path: the folder in the cache that holds it.
    """

    images: np.ndarray
    offsets: np.ndarray
    class_names: tuple[str, ...]
    fingerprint: str
    path: Path

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> np.ndarray:
        """Class ids, (N,) int64."""
        return np.repeat(np.arange(len(self.class_names)), np.diff(self.offsets))

    def class_counts(self) -> np.ndarray:
        """Images per class, (n_classes,) int64."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """Copy the images of `rows` (n,) into a new uint8 tensor (n, H, W, C); the table itself is never exposed."""
        return torch.from_numpy(gather(self.images, np.asarray(rows)))


class TableWriter:
    """Collects decoded images in any order, then writes them as an ImageTable; images go to disk as they come.

    Of each image it holds 20 bytes: its content key and the number of its class.
    """

    def __init__(self, cache_dir: Path, *, channels: int, image_size: int) -> None:
        self._root = cache_dir / "tables"
        self._work = self._root / f".writing-{uuid.uuid4().hex}"
        self._work.mkdir(parents=True)
        self._shape = (image_size, image_size, channels)
        self._images = RowFile(self._work / "images.npy", self._shape, np.uint8)
        self._numbers: dict[str, int] = {}
        self._classes = array("i")
        self._keys = bytearray()

    def add(self, pixels: np.ndarray, class_names: list[str], keys: list[bytes]) -> None:
        """Append images: `pixels` (n, S, S, C) uint8, a class name and a content key for each.

        Raises:
            ValueError: they are of another shape or type, or a key of another length.
        """
        joined = b"".join(keys)
        if not len(pixels) == len(class_names) == len(keys) == len(joined) / KEY_BYTES:
            raise ValueError(
                f"expected a class name and {KEY_BYTES} bytes of key for each of {len(pixels)} images, got "
                f"{len(class_names)} names and {len(joined)} bytes"
            )
        self._images.append(pixels)
        self._classes.extend(self._numbers.setdefault(name, len(self._numbers)) for name in class_names)
        self._keys += joined

    def finish(self, signature: str) -> tuple[ImageTable, np.ndarray]:
        """Write the table under its fingerprint and remember that `signature` leads to it.

        Returns:
            The table, and `order` (N,) int64: the arrival position of each row, to arrange what came along with it.

        Raises:
            InputError: no image was added.
        """
        self._images.close()
        if not self._keys:
            raise InputError("the source holds 0 images of the wanted classes; expected at least 1: check its labels")
        names = sorted(self._numbers)
        ranks = np.argsort(np.array([self._numbers[name] for name in names]))  # of classes by number of their arrival
        labels = ranks[np.frombuffer(self._classes, dtype=np.intc)]
        # Keys sort as bytes do: by their first half, a big-endian number, then by the second.
        first, second = np.frombuffer(self._keys, dtype=">u8").reshape(-1, 2).T
        order = np.lexsort((second, first, labels))
        fingerprint = self._fingerprint(names, labels, order)
        path = self._root / fingerprint
        if not path.exists():
            offsets = np.concatenate([[0], np.cumsum(np.bincount(labels))]).astype(np.int64)
            np.save(self._work / "offsets.npy", offsets)
            (self._work / "classes.json").write_text(json.dumps(names))
            arrange(self._work / "images.npy", order)
            _publish(self._work, path)
        self.abandon()
        link = _link_path(self._root.parent, signature)
        link.parent.mkdir(parents=True, exist_ok=True)
        write_durably(link, fingerprint.encode())
        return open_table(self._root.parent, fingerprint), order

    def abandon(self) -> None:
        """Remove what was written so far."""
        self._images.abandon()
        shutil.rmtree(self._work, ignore_errors=True)

    def _fingerprint(self, names: list[str], labels: np.ndarray, order: np.ndarray) -> str:
        content = hashlib.blake2b(digest_size=16)
        content.update(f"{DECODE_RULE}|{self._shape}".encode())
        heads = [name.encode(errors="surrogateescape") + b"\0" for name in names]
        for i, label in zip(order.tolist(), labels[order].tolist(), strict=True):
            content.update(heads[label] + self._keys[KEY_BYTES * i : KEY_BYTES * (i + 1)])
        return content.hexdigest()


def table_signature(source: Source, *, channels: int, image_size: int) -> str:
    """Name what decoding `source` would give, without decoding it."""
    return stable_hash([source.signature(), DECODE_RULE, channels, image_size])


def find_table(cache_dir: Path, signature: str) -> ImageTable | None:
    """Return the table that `signature` led to before, or None if it has to be decoded."""
    link = _link_path(cache_dir, signature)
    if not link.exists():
        return None
    fingerprint = link.read_text()
    whole = fingerprint and (cache_dir / "tables" / fingerprint / "images.npy").exists()
    return open_table(cache_dir, fingerprint) if whole else None


def open_table(cache_dir: Path, fingerprint: str) -> ImageTable:
    """Map the table called `fingerprint` into memory, read-only.

    Raises:
        InputError: the cache does not have it, or what it has is damaged.
    """
    path = cache_dir / "tables" / fingerprint
    if not re.fullmatch("[0-9a-f]+", fingerprint) or not path.exists():
        raise InputError(
            f"image table {fingerprint} is not in {cache_dir}; on a cluster, RAYFS_CACHE must name "
            "a folder that every node shares"
        )
    try:
        images, offsets = np.load(path / "images.npy", mmap_mode="r"), np.load(path / "offsets.npy")
        class_names = tuple(parse_json((path / "classes.json").read_bytes()))
        whole = (images.ndim, images.dtype, len(offsets)) == (4, np.uint8, len(class_names) + 1)
        whole = whole and offsets[-1] == len(images)
    except (OSError, ValueError, TypeError, EOFError):
        whole = False
    if not whole:
        raise InputError(f"image table {path} is damaged; remove that folder: its images will be decoded again")
    touch(path / "images.npy")
    return ImageTable(images=images, offsets=offsets, class_names=class_names, fingerprint=fingerprint, path=path)


def load_table(source: Source, cache_dir: Path, *, channels: int, image_size: int) -> ImageTable:
    """Return the table of `source`: from the cache, or decoded here in one process.

    Raises:
        InputError: an image or a file cannot be read, or there is no image at all.
    """
    signature = table_signature(source, channels=channels, image_size=image_size)
    table = find_table(cache_dir, signature)
    if table is not None:
        return table
    writer = TableWriter(cache_dir, channels=channels, image_size=image_size)
    try:
        for image in source.read():
            decoded = decode(image.encoded, channels=channels, image_size=image_size, where=image.where)
            writer.add(decoded.pixels[None], [image.class_name], [decoded.key])
        return writer.finish(signature)[0]
    finally:
        writer.abandon()


def cache_folder(path: str | None = None) -> Path:
    """Return the cache folder, in use from now on: `path`, else $RAYFS_CACHE, else ~/.cache/rayfs."""
    chosen = path or os.environ.get("RAYFS_CACHE") or "~/.cache/rayfs"
    folder = Path(chosen).expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the cache folder {folder} ({error.strerror}); set RAYFS_CACHE") from None
    share_cache(folder)
    return folder


def _link_path(cache_dir: Path, signature: str) -> Path:
    return cache_dir / "sources" / signature


def _publish(work: Path, path: Path) -> None:
    """Move a finished folder into place; if another process was faster, its folder has the same content."""
    try:
        work.rename(path)
    except OSError:
        if not path.exists():
            raise
