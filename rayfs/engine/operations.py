"""Which operations the stages of an episode spend their time in, as PyTorch's profiler sees it."""

import os
import tempfile
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rayfs.engine.stages import PROFILED, StageClock, timed_by


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What one operation took in one stage, all its calls together."""

    stage: str
    name: str
    """Of PyTorch's operator, or of the kernel on a GPU."""
    calls: int
    seconds: float
    """In itself, without the operations that it calls; with the profiler's own cost."""


def profile_operations(function: Callable[[], object], device: torch.device) -> tuple[list[Operation], bytes]:
    """Call `function` twice under the profiler, which grows in memory the first time.

    Returns:
        Operations of the second call inside stages, longest first: those of the CPU, or on a GPU its kernels. And its
        trace (Chrome's format, gzip), which https://ui.perfetto.dev shows along the time.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else its library prints that there is no GPU
    from torch.profiler import ProfilerActivity, profile, schedule

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    second = schedule(wait=0, warmup=1, active=1, repeat=1)
    with profile(activities=activities, schedule=second) as profiler, timed_by(StageClock(device)):
        for _ in range(2):
            function()
            profiler.step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json.gz"
        profiler.export_chrome_trace(str(path))
        trace = path.read_bytes()
    return by_stage(profiler.events() or [], device), trace


def by_stage(events: Iterable[Any], device: torch.device) -> list[Operation]:
    """Sum up the profiler's events by stage and name.

    An event belongs to the stage that it begins in: a stage waits for the GPU at both ends, and no two overlap.
    """
    on_gpu = device.type == "cuda"
    events, wanted = list(events), "CUDA" if on_gpu else "CPU"
    stages = sorted(
        (event.time_range.start, event.time_range.end, event.name.removeprefix(PROFILED))
        for event in events
        if event.name.startswith(PROFILED) and event.device_type.name == "CPU"
    )
    starts = [start for start, _, _ in stages]
    calls: dict[tuple[str, str], int] = defaultdict(int)
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        place = bisect_right(starts, event.time_range.start) - 1
        is_inside = place >= 0 and event.time_range.start <= stages[place][1]
        is_work = event.device_type.name == wanted and not getattr(event, "is_user_annotation", False)
        if not is_work or not is_inside or event.name.startswith(PROFILED):
            continue
        key = stages[place][2], event.name
        calls[key] += 1
        seconds[key] += (event.time_range.elapsed_us() if on_gpu else event.self_cpu_time_total) / 1e6
    found = [Operation(stage=key[0], name=key[1], calls=calls[key], seconds=seconds[key]) for key in calls]
    return sorted(found, key=lambda operation: -operation.seconds)
