"""Operations by stage: those inside, counted and timed, and none from outside."""

import gzip
import json
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from rayfs.engine.operations import Operation, by_stage, profile_operations
from rayfs.engine.stages import PROFILED, stage

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_operations_are_those_of_the_second_call_inside_stages():
    a, calls = torch.ones(200, 200, requires_grad=True), []

    def work() -> None:
        calls.append(1)
        torch.cumsum(a, 0)  # outside
        for _ in range(3):
            with stage("forward"):
                loss = (a @ a).sum()
            with stage("backward"):
                loss.backward()

    operations, trace = profile_operations(work, CPU)
    found = {(operation.stage, operation.name): operation for operation in operations}
    assert len(calls) == 2 and {stage for stage, _ in found} == {"forward", "backward"}
    assert found["forward", "aten::mm"].calls == 3 and found["backward", "aten::mm"].calls == 6
    seconds = [operation.seconds for operation in operations]
    assert seconds == sorted(seconds, reverse=True) and found["forward", "aten::mm"].seconds > 0
    assert not any("cumsum" in name or name.startswith(PROFILED) for _, name in found)
    assert any(event.get("name") == "aten::mm" for event in json.loads(gzip.decompress(trace))["traceEvents"])


def event(name: str, start: float, seconds: float, device: DeviceType, of_user: bool = False) -> SimpleNamespace:
    time = SimpleNamespace(start=1e6 * start, end=1e6 * (start + seconds), elapsed_us=lambda: 1e6 * seconds)
    return SimpleNamespace(
        name=name, time_range=time, device_type=device, self_cpu_time_total=7.0, is_user_annotation=of_user
    )


def test_kernels_belong_to_the_stage_that_they_begin_in():
    events = [
        event(f"{PROFILED}forward", 1, 2, DeviceType.CPU), event(f"{PROFILED}backward", 4, 2, DeviceType.CPU),
        event(f"{PROFILED}forward", 1.5, 2, DeviceType.CUDA),  # its shadow on the GPU
        event("aten::conv2d", 1.1, 0.1, DeviceType.CPU), event("early", 0.5, 0.2, DeviceType.CUDA),
        event("conv", 1.2, 0.5, DeviceType.CUDA), event("conv", 2.0, 0.25, DeviceType.CUDA),
        event("Optimizer.step", 1.2, 0.9, DeviceType.CUDA, of_user=True),  # around kernels
        event("between", 3.5, 0.25, DeviceType.CUDA), event("wgrad", 4.5, 1, DeviceType.CUDA),
    ]  # fmt: skip
    assert by_stage(events, GPU) == [
        Operation(stage="backward", name="wgrad", calls=1, seconds=pytest.approx(1)),
        Operation(stage="forward", name="conv", calls=2, seconds=pytest.approx(0.75)),
    ]
    (only,) = by_stage(events, CPU)
    assert only == Operation(stage="forward", name="aten::conv2d", calls=1, seconds=pytest.approx(7e-6))
