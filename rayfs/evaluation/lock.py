"""One writer at a time: an advisory lock on a local file."""

import errno
import fcntl
import os
import warnings
from pathlib import Path

from rayfs.errors import InputError


class WriterLock:
    """`flock` on `path`, held until `release` or the end of the process, however it ends.

    The file stays behind (deleting it would let two writers hold two files of one name); it holds the writer's process
    id and host. A filesystem that has no `flock` (some Lustre and NFS mounts) gives a warning and no protection.

    Raises:
        InputError: if another writer holds the lock, or `path` is a link: the file behind it would be overwritten.
        OSError: if the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        if path.is_symlink():
            raise InputError(f"{path} is a link to {path.readlink()}; remove it, a lock is a file of its own")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            _lock(descriptor, path)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let the next writer in; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 256, 0).decode(errors="replace").strip() or "unknown"
        raise InputError(
            f"another process is writing this run (pid {holder}): {path.parent}; wait for it, stop it, "
            "or use another --out"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
        warnings.warn(
            f"{path} cannot be locked ({error.strerror}); make sure that only one process writes this run",
            RuntimeWarning,
            stacklevel=3,
        )
