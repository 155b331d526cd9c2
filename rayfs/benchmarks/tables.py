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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rayfs.benchmarks.images import DECODE_RULE, decode
from rayfs.benchmarks.sources import Source
from rayfs.cache import share_cache, touch
from rayfs.durable_files import write_durably
from rayfs.errors import InputError
from rayfs.hashing import stable_hash
from rayfs.json_text import parse_json

_COPY_ROWS = 4096


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
        return torch.from_numpy(self.images[np.asarray(rows)])


class TableWriter:
    """Collects decoded images in any order, then writes them as an ImageTable; images go to disk as they come."""

    def __init__(self, cache_dir: Path, *, channels: int, image_size: int) -> None:
        self._root = cache_dir / "tables"
        self._work = self._root / f".writing-{uuid.uuid4().hex}"
        self._work.mkdir(parents=True)
        self._shape = (image_size, image_size, channels)
        self._raw = (self._work / "arrival.raw").open("wb")
        self._names: list[str] = []
        self._keys: list[bytes] = []

    def add(self, pixels: np.ndarray, class_names: list[str], keys: list[bytes]) -> None:
        """Append images: `pixels` (n, S, S, C) uint8, a class name and a content key for each."""
        if pixels.shape[1:] != self._shape or pixels.dtype != np.uint8:
            raise ValueError(f"expected (n, {self._shape}) uint8, got {pixels.shape} {pixels.dtype}")
        self._raw.write(np.ascontiguousarray(pixels).tobytes())
        self._names += class_names
        self._keys += keys

    def finish(self, signature: str) -> tuple[ImageTable, np.ndarray]:
        """Write the table under its fingerprint and remember that `signature` leads to it.

        Returns:
            The table, and `order` (N,) int64: the arrival position of each row, to arrange what came along with it.

        Raises:
            InputError: no image was added.
        """
        self._raw.close()
        if not self._keys:
            raise InputError("the source holds 0 images of the wanted classes; expected at least 1: check its labels")
        order = np.array(sorted(range(len(self._keys)), key=lambda i: (self._names[i], self._keys[i])), dtype=np.int64)
        names = sorted(set(self._names))
        counts = dict.fromkeys(names, 0)
        for name in self._names:
            counts[name] += 1
        fingerprint = self._fingerprint(order)
        path = self._root / fingerprint
        if not path.exists():
            offsets = np.concatenate([[0], np.cumsum([counts[name] for name in names])]).astype(np.int64)
            np.save(self._work / "offsets.npy", offsets)
            (self._work / "classes.json").write_text(json.dumps(names))
            self._write_images(order)
            (self._work / "arrival.raw").unlink()
            _publish(self._work, path)
        self.abandon()
        link = _link_path(self._root.parent, signature)
        link.parent.mkdir(parents=True, exist_ok=True)
        write_durably(link, fingerprint.encode())
        return open_table(self._root.parent, fingerprint), order

    def abandon(self) -> None:
        """Remove what was written so far."""
        self._raw.close()
        shutil.rmtree(self._work, ignore_errors=True)

    def _fingerprint(self, order: np.ndarray) -> str:
        content = hashlib.blake2b(digest_size=16)
        content.update(f"{DECODE_RULE}|{self._shape}".encode())
        for i in order:
            content.update(self._names[i].encode(errors="surrogateescape") + b"\0" + self._keys[i])
        return content.hexdigest()

    def _write_images(self, order: np.ndarray) -> None:
        arrival = np.memmap(self._work / "arrival.raw", dtype=np.uint8, mode="r", shape=(len(order), *self._shape))
        target = np.lib.format.open_memmap(self._work / "images.npy", mode="w+", dtype=np.uint8, shape=arrival.shape)
        for start in range(0, len(order), _COPY_ROWS):
            target[start : start + _COPY_ROWS] = arrival[order[start : start + _COPY_ROWS]]
        target.flush()


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
