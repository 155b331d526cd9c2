"""Where the seconds of the engine's steps go, operation by operation."""

import re
from collections.abc import Sequence
from typing import Any

from rayfs.distributed.processes import Process
from rayfs.durable_files import write_durably
from rayfs.engine.machine import Speeds
from rayfs.engine.operations import Operation
from rayfs.engine.stages import STEP_STAGES
from rayfs.errors import InputError
from rayfs.performance.bench import Bench, flops_of
from rayfs.performance.timing_report import operation_table
from rayfs.performance.timings import write_rows

ARITHMETIC = re.compile(r"conv|gemm|xmma|cutlass|[wd]grad|matmul|addmm|::mm$")
"""In names of operations and kernels that do the arithmetic which `step_flops` counts."""


def measure_profile(bench: Bench, workers: Sequence[Process]) -> None:
    """Profile the steps of an episode of one worker in each precision; print and write what its operations take."""
    config, episode = bench.part, bench.experiment.episodes[0]
    rows: list[dict[str, Any]] = []
    for precision in bench.config.precisions:
        workers[0].ask("measure", episode, precision)  # warms up
        found, trace, speeds = workers[0].ask("profile", episode, precision)
        operations = [operation for operation in found if operation.stage in STEP_STAGES]
        if not operations:
            raise InputError(
                f"the profiler saw 0 operations on {bench.device.type}; the driver must let processes trace the GPU "
                "(its option NVreg_RestrictProfilingToAdminUsers=0)"
            )
        print(f"\nthe engine's steps, {precision}, one worker, {config.steps} steps under the profiler")
        print(operation_table(operations, config.steps))
        print(arithmetic_note(bench, operations, speeds, precision), flush=True)
        rows += [
            {
                "precision": precision, "stage": operation.stage, "operation": operation.name,
                "calls_per_step": operation.calls / config.steps,
                "ms_per_step": 1000 * operation.seconds / config.steps,
            }
            for operation in operations
        ]  # fmt: skip
        if bench.config.out is not None:
            write_durably(bench.config.out / f"profile-{precision}.json.gz", trace)
    if bench.config.out is not None:
        write_rows(bench.config.out / "profile.parquet", rows)
        print(f"profile.parquet, and traces that https://ui.perfetto.dev shows: {bench.config.out}")


def arithmetic_note(bench: Bench, operations: Sequence[Operation], speeds: Speeds, precision: str) -> str:
    """Say what share of the time convolutions take, how fast they are, and what is left."""
    whole_s = sum(operation.seconds for operation in operations)
    arithmetic_s = sum(operation.seconds for operation in operations if ARITHMETIC.search(operation.name))
    if arithmetic_s == 0:
        return "No operation is known by its name as a convolution or a matrix product."
    protocol, config = bench.experiment.protocol, bench.part
    n_images = config.base_batch + protocol.n_way * protocol.n_shot * config.step_views
    rate = flops_of(bench, n_images, naive=False) * config.steps / arithmetic_s
    peak = speeds.matmul_flops_per_s[precision]
    return (
        f"Convolutions and matrix products take {arithmetic_s / whole_s:.0%} of this time, at {rate / peak:.0%} of the "
        f"worker's matmul peak ({peak / 1e9:,.0f} GFLOP/s); all else takes {1 - arithmetic_s / whole_s:.0%}."
    )
