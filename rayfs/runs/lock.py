"""One writer at a time: an advisory lock on a local file, a lease on other filesystems."""

import contextlib
import errno
import fcntl
import os
import threading
import time
import uuid
import warnings
from pathlib import Path

from rayfs.errors import InputError
from rayfs.runs.storage import STORAGE_ERRORS, Storage

LEASE = ".lease-"
"""A lease's name begins so."""

CLAIMING = "claiming"
"""Last line of a lease whose driver has not looked at those of others yet."""

RENEWED_S, EXPIRED_S = 15.0, 90.0
"""Seconds between two renewals of a lease, and without one until it counts as a dead driver's."""

LOOK_S, CLAIM_S = 0.2, 10.0
"""Seconds between two looks at the leases of others that claim the run at once, and of all looks together."""


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
    except (BlockingIOError, PermissionError) as error:  # some network filesystems say EACCES of a lock that is held
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


class WriterLease:
    """A small file `.lease-ID` that its driver rewrites every `RENEWED_S` seconds: a lock for object stores.

    They have no locks, and pyarrow has no conditional write. So each driver writes a lease of its own name and then
    lists all: of two drivers the later one sees the other's and refuses. (S3, GCS and Azure list whatever has been
    written.) A lease says whether its driver still claims the run or writes it. Of drivers that claim it at once the
    one whose name sorts first waits for the others to refuse, so that one of them writes, and not none.

    The next driver takes over, with a warning, from a lease that was not renewed for `EXPIRED_S`, or whose process is
    known to be dead as it ran beside it. Ages are differences of the store's dates; no clock of a driver counts. A
    driver that has not renewed in time (asleep, cut off) asks before it writes and stops if its lease is gone; only one
    that falls asleep for `EXPIRED_S` between that and the end of its upload can still write beside its successor.

    Raises:
        InputError: if another driver has a lease.
        OSError, pyarrow.ArrowException: if the lease cannot be written.
    """

    def __init__(self, storage: Storage, location: str) -> None:
        self._storage = storage
        self._location = location
        self._name = f"{LEASE}{uuid.uuid4().hex}"
        self._claiming = True
        self._renewed = time.time()
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._write()
        try:
            self._claim()
        except BaseException:
            self.release()
            raise
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    def check(self) -> None:
        """Renew the lease if that is overdue; call it before every write.

        Raises:
            InputError: if another driver has taken over.
            OSError, pyarrow.ArrowException: if the lease cannot be renewed.
        """
        if not 0 <= time.time() - self._renewed < EXPIRED_S / 2:  # time.monotonic stands still in a sleeping machine
            self._renew()

    def release(self) -> None:
        """Let the next driver in; a second call does nothing."""
        with self._mutex:
            if not self._ended.is_set():
                self._ended.set()
                with contextlib.suppress(*STORAGE_ERRORS):
                    self._storage.delete(self._name)

    def _write(self) -> None:
        started = time.time()
        lines = [f"{os.getpid()} on {os.uname().nodename}", _processes(), *([CLAIMING] if self._claiming else [])]
        self._storage.write(self._name, "".join(f"{line}\n" for line in lines).encode())
        self._renewed = started

    def _keep(self) -> None:
        while not self._ended.wait(RENEWED_S):
            with contextlib.suppress(*STORAGE_ERRORS, InputError):  # `check` tells
                self._renew()

    def _renew(self) -> None:
        with self._mutex:
            if self._ended.is_set():
                return
            if self._name not in self._storage.names():
                self._renewed = 0.0
                raise InputError(
                    f"another driver took over the run {self._location}: this one had not renewed its lease for "
                    f"{EXPIRED_S:.0f} s; what it has committed stays, let the other finish"
                )
            self._write()

    def _claim(self) -> None:
        """Refuse or outwait all others, then say that this driver writes."""
        last_s = time.monotonic() + CLAIM_S
        while self._refuse_others(patient=time.monotonic() < last_s):
            time.sleep(LOOK_S)
        self._claiming = False
        self._write()

    def _refuse_others(self, *, patient: bool) -> bool:
        """Refuse a run that another driver has; return whether one claims it that has to give way to this one."""
        dates, waits = self._storage.dates(), False
        for name in sorted(name for name in dates if name.startswith(LEASE) and name != self._name):
            silent_s = (dates[self._name] - dates[name]).total_seconds()
            holder, processes, is_claiming = self._holder(name)
            if silent_s < EXPIRED_S and not (processes == _processes() != "" and _is_dead(holder)):
                if patient and is_claiming and self._name < name:
                    waits = True
                    continue
                raise InputError(
                    f"another process is writing this run (pid {holder}): {self._location}; wait for it, stop it, or "
                    f"use another --out. If it is dead, rerun in {EXPIRED_S - max(silent_s, 0):.0f} s: a lease that is "
                    f"not renewed for {EXPIRED_S:.0f} s is taken over"
                )
            warnings.warn(
                f"{self._location}: took over from a dead driver (pid {holder}, last heard {silent_s:.0f} s ago)",
                RuntimeWarning,
                stacklevel=3,
            )
            with contextlib.suppress(FileNotFoundError):
                self._storage.delete(name)
        return waits

    def _holder(self, name: str) -> tuple[str, str, bool]:
        """Return the driver of a lease, what `_processes` said there, and whether it still claims the run.

        One that cannot be read is just being written or deleted: its driver is unknown and claims the run.
        """
        try:
            lines = self._storage.read(name).decode(errors="replace").splitlines()
        except STORAGE_ERRORS:
            lines = []
        return (lines[0], lines[1], lines[2:] == [CLAIMING]) if len(lines) >= 2 else ("unknown", "", True)


def _processes() -> str:
    """Return what two processes share that see each other's ids: one start of one kernel, and a namespace; or ""."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _is_dead(holder: str) -> bool:
    try:
        os.kill(int(holder.split()[0]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, IndexError):
        pass
    return False
