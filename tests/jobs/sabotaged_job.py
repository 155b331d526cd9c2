"""The main job, killed with -9 when it is about to rename the file that the first argument names.

    python tests/jobs/sabotaged_job.py part-000003.parquet --out runs/omniglot

It commits every episode by itself, so that there are many parts.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

from rayfs.runs.result_buffer import ResultBuffer


def main() -> None:
    deadly, rename = sys.argv.pop(1), os.replace

    def replace(source: Path, target: Path) -> None:
        if target.name == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = replace  # type: ignore[assignment]
    ResultBuffer.__init__.__kwdefaults__["flush_seconds"] = 0.0
    runpy.run_path("jobs/label_halluc_eval.py", run_name="__main__")


if __name__ == "__main__":
    main()
