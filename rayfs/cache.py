"""The cache folder from outside: what lies in it, since when nobody used it, and what may go.

Whatever lies there can be made again. A job shares a lock of the folder for as long as it runs; who removes something
needs the lock alone, so that nothing goes that a job uses, or will use when it restarts a worker. File systems without
`flock` know no such lock: there, clear the cache while nothing runs.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rayfs.errors import InputError

LOCK = ".in-use"

_shared: dict[Path, int] = {}
"""Folder -> descriptor of its lock, which this process shares until it ends."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing in the cache that can be removed on its own: a file or a folder."""

    path: Path
    kind: str
    """The folder it is in (tables, features, backbones ...), activations of files in features, or unfinished."""
    what: str
    n_bytes: int
    """On the disk."""
    used: float
    """Unix seconds: when a job last opened it, or wrote it, where jobs do not note that they open it."""


def share_cache(folder: Path) -> None:
    """Mark `folder` as in use until this process ends; waits for one who is just removing from it."""
    if folder in _shared:
        return
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:  # a read-only cache: nobody can remove from it
        return
    with contextlib.suppress(OSError):  # no flock on this file system
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    _shared[folder] = descriptor


def touch(path: Path) -> None:
    """Note that `path` is used now; without a word where it may not be written."""
    with contextlib.suppress(OSError):
        os.utime(path)


def cache_entries(folder: Path) -> list[Entry]:
    """Return what `folder` holds, the largest first; links from sources to tables are not counted."""
    found = [
        _entry(path, kind.name)
        for kind in folder.iterdir()
        if kind.is_dir() and not kind.is_symlink() and kind.name != "sources"
        for path in kind.iterdir()
    ]
    return sorted(found, key=lambda entry: (-entry.n_bytes, str(entry.path)))


def remove_entries(folder: Path, entries: list[Entry]) -> None:
    """Remove `entries` of `folder`.

    Raises:
        InputError: a job uses the cache, or something may not be removed.
    """
    with _alone(folder):
        for entry in entries:
            try:
                shutil.rmtree(entry.path) if entry.path.is_dir() else entry.path.unlink()
            except OSError as error:
                raise InputError(f"cannot remove {entry.path} ({error.strerror}); check its permissions") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"the cache {folder} cannot be written ({error.strerror}); check its permissions") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"a job uses the cache {folder}; nothing was removed: wait for its end, or stop it"
            ) from None
        except OSError:  # no flock on this file system
            pass
        yield
    finally:
        os.close(descriptor)


def _entry(path: Path, kind: str) -> Entry:
    files = [path] if not path.is_dir() else [file for file in path.rglob("*") if file.is_file()]
    states = [file.lstat() for file in files]
    what = ""
    if path.name.startswith("."):
        kind = "unfinished"
    elif kind in ("features", "tables"):
        kind, what = _array(path, kind)
    return Entry(
        path=path, kind=kind, what=what, n_bytes=sum(state.st_blocks * 512 for state in states),
        used=max((state.st_mtime for state in states), default=path.lstat().st_mtime),
    )  # fmt: skip


def _array(path: Path, kind: str) -> tuple[str, str]:
    """Return kind and description of a table or of features, from the head of its array."""
    try:
        array = np.load(path / "images.npy" if path.is_dir() else path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return kind, "damaged"
    n, *rest = array.shape
    if kind == "tables":
        return kind, f"{n:,} images, {'x'.join(map(str, rest))}"
    if len(rest) <= 2:
        views = f"{rest[0]} views of " if len(rest) == 2 else ""
        return kind, f"{views}{n:,} images, {rest[-1]} features"
    return "activations", f"{rest[0]} views of {n:,} images, {'x'.join(map(str, rest[1:]))}"
