"""Files that are there whole or not at all, whatever dies while they are written."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"
"""With a leading dot, marks a file that a killed writer may have left unfinished."""


@contextmanager
def written_durably(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to; after the block, flush it to the disk and rename it to `path`.

    Missing folders are made. If the block or the disk fails, `path` is as it was and nothing lies beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Write `data` to `path`, all of it or nothing."""
    with written_durably(path) as temporary:
        temporary.write_bytes(data)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network filesystems cannot sync a folder; the file itself is safe.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
