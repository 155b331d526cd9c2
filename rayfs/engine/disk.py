"""Room on the disk of the cache, asked for before anything large is made."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rayfs.errors import InputError


def refuse_full_disk(cache_dir: Path, n_bytes: int, what: str, instead: str = "") -> None:
    """Refuse to make `what` where the disk of the cache has no room for its `n_bytes`.

    Arguments:
        instead: how to need less, as a sentence goes on.
    """
    free = shutil.disk_usage(cache_dir).free
    if n_bytes > free:
        raise InputError(
            f"{what} take {n_bytes / 1e9:.1f} GB but the disk of the cache {cache_dir} has {free / 1e9:.1f} GB left; "
            f"{instead}remove what is not needed (jobs/cache.py), or set RAYFS_CACHE to a larger disk"
        )


@contextmanager
def full_disk_is_wrong_input(cache_dir: Path) -> Iterator[None]:
    """Turn the error of a disk that others filled meanwhile into one message."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"the disk of the cache {cache_dir} became full ({error.strerror}); what was unfinished is removed: make "
            "room (jobs/cache.py), or set RAYFS_CACHE to a larger disk"
        ) from None
