"""Memory of this machine or container: how much there is, and what a tree of processes holds of it, by kind.

Linux. A container's limit counts the pages of files that it has read, too, but those can go: a memory map larger than
the limit is read again. What cannot go are the processes' own pages and shared memory.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from rayfs.engine.machine import family

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class Held:
    """What one process holds, in bytes; what several map is divided by their number (PSS)."""

    pid: int
    name: str
    """Of its command; Ray's workers are called ray::what they do."""
    own_bytes: int
    """Anonymous: nobody else can use it."""
    shm_bytes: int
    """Shared memory: of Ray, its object store."""
    file_bytes: int
    """Mapped pages of files, which the system may drop; of a library, or of images that many workers map."""
    mapped_bytes: int
    """The same, not divided: the pages that this process sees."""


def tree_memory(root: int) -> list[Held]:
    """Return what a process and all its living descendants hold."""
    return [held for pid in sorted(family(root)) if (held := process_memory(pid)) is not None]


def process_memory(pid: int) -> Held | None:
    """Return what a process holds; None if it has ended, or belongs to others."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = _fields(folder / "smaps_rollup")
        command = (folder / "cmdline").read_bytes().split(b"\0")
        rss = _fields(folder / "status")
    except OSError:
        return None
    if "Pss_Anon" not in fields:  # a kernel thread, or a process that is just ending
        return None
    return Held(
        pid=pid, name=command[0].decode(errors="replace").rsplit("/", 1)[-1], own_bytes=fields["Pss_Anon"],
        shm_bytes=fields["Pss_Shmem"], file_bytes=fields["Pss_File"], mapped_bytes=rss.get("RssFile", 0),
    )  # fmt: skip


def memory_limit() -> int:
    """Return the bytes that processes here may use: the machine's memory, or less where a container has a limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [_number(folder / name) for folder in _groups() for name in ("memory.max", "memory.limit_in_bytes")]
    return min([total, *(limit for limit in limits if limit is not None)])


def page_cache_bytes() -> int:
    """Return the bytes of files that this container, or the machine, holds in memory; shared memory is none."""
    if memory_limit() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        for folder in (folder for folder in _groups() if (folder / "memory.stat").exists()):
            fields = _fields(folder / "memory.stat", unit=1)
            if "file" in fields:  # of the second version
                return fields["file"] - fields["shmem"]
            if "total_cache" in fields:
                return fields["total_cache"] - fields["total_shmem"]
    fields = _fields(Path("/proc/meminfo"))
    return fields["Cached"] - fields["Shmem"]


def _groups() -> list[Path]:
    """Return the folders of this process's memory control group, or of the container's, that there are."""
    folders = []
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "memory" in controllers.split(","):
            mount = _CGROUPS / "memory" if controllers else _CGROUPS
            folders += [mount / path.lstrip("/"), mount]  # a container often sees its own group as the root
    return [folder for folder in folders if folder.is_dir()]


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None  # else there is no such file, or no limit: "max"


def _fields(path: Path, unit: int = 1024) -> dict[str, int]:
    """Return the lines `name: number` of a file, in bytes."""
    pairs = [line.replace(":", " ").split()[:2] for line in path.read_text().splitlines()]
    return {pair[0]: int(pair[1]) * unit for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
