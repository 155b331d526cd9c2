"""What this machine is and does: processor time of processes and of all others, its peak speeds, memory used.

Linux; elsewhere the figures that /proc would give are 0.
"""

import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

MATMUL_SIDE, COPY_BYTES = {"cpu": 2048, "cuda": 8192}, 256 << 20
LEAST_S = 0.2
"""Each probe repeats for so long."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def process_cpu_s(pid: int, with_ended_children: bool = False) -> float:
    """Return the processor seconds of a process, all its threads, as long as it lives.

    Arguments:
        with_ended_children: and of the children that it has waited for, theirs included.
    """
    fields = _stat(pid)
    return sum(map(int, fields[11 : 15 if with_ended_children else 13])) / _TICKS if fields else 0.0


def family(root: int) -> set[int]:
    """Return a process and all its living descendants."""
    parents = {int(path.name): _stat(int(path.name)) for path in _PROC.glob("[0-9]*")}
    found, grew = {root}, True
    while grew:
        more = {pid for pid, fields in parents.items() if fields and int(fields[1]) in found} - found
        found |= more
        grew = bool(more)
    return found


def tree_cpu_s(root: int) -> float:
    """Return the processor seconds of a process and all its descendants, living and ended."""
    return sum(process_cpu_s(pid, with_ended_children=True) for pid in family(root))


def machine_cpu_s() -> float:
    """Return the processor seconds that all processes of the machine have used."""
    try:
        user, nice, system, _, _, irq, softirq, *_ = (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    return sum(map(int, (user, nice, system, irq, softirq))) / _TICKS


class ForeignLoad:
    """Tells how many cores processes outside the tree of this one used since it was made."""

    def __init__(self) -> None:
        self._since, self._all_s, self._own_s = time.monotonic(), machine_cpu_s(), tree_cpu_s(os.getpid())

    def cores(self) -> float:
        """Return the mean number of cores."""
        foreign_s = machine_cpu_s() - self._all_s - (tree_cpu_s(os.getpid()) - self._own_s)
        return max(0.0, foreign_s / (time.monotonic() - self._since))


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """What this process reached just now, with all its threads."""

    matmul_flops_per_s: dict[str, float]
    """Of square matrices, by precision (float32, bf16)."""
    copy_bytes_per_s: float
    """Read and written."""


def measure_speeds(device: torch.device) -> Speeds:
    """Time square matrix products and copies of 256 MB, with the precision that this process has for float32."""
    matmul, side = {}, MATMUL_SIDE[device.type]
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        matmul[name] = 2 * side**3 / _seconds(partial(torch.mm, a, b, out=out), device)
    source = torch.zeros(COPY_BYTES // 4, device=device)
    target = torch.zeros_like(source)
    return Speeds(
        matmul_flops_per_s=matmul, copy_bytes_per_s=2 * COPY_BYTES / _seconds(lambda: target.copy_(source), device)
    )


def peak_rss_bytes() -> int:
    """Return the most memory that this process has held, shared pages included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def processor_name() -> str:
    """Return the processor's name, and that it has AMX where it does."""
    try:
        text = (_PROC / "cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return (names[0] if names else platform.machine()) + (" with AMX" if "amx_bf16" in text else "")


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; its third is field 0 here."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the mean seconds of one call over `LEAST_S`, after a first one that is not counted."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    n, started = 0, time.perf_counter()
    while time.perf_counter() - started < LEAST_S:
        for _ in range(4):
            work()
        n += 4
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / n
