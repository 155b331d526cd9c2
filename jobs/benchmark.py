"""Measure the engine against the naive recipe, in turn in one run; scaling, start, driver, memory, a profile.

    python jobs/benchmark.py --benchmark cifar-fs --data DIR --out runs/speed
    python jobs/benchmark.py --benchmark cifar-fs --data DIR --backbone resnet12 \\
        --measured-steps 3 --measured-batches 4
    python jobs/benchmark.py --measure scaling sweep startup driver
    python jobs/benchmark.py --measure profile --measured-steps 20 --workers 1 --out runs/profile
    python jobs/benchmark.py --measure memory --workers 4 --images 448695

Prints tables; with --out writes timings.parquet and timings.svg, and a Parquet file for each other measure.
"""

import sys

from rayfs.flags.command_line import run_job
from rayfs.performance.benchmark_flags import BenchmarkConfig


def main(config: BenchmarkConfig) -> int:
    from rayfs.performance.benchmark import run_benchmark  # torch takes seconds to import

    return run_benchmark(config)


if __name__ == "__main__":
    sys.exit(run_job(main, BenchmarkConfig, __doc__))
