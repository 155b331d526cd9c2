"""Build the report of a run again, from its directory: report.html, table.csv, table.md and table.tex.

    python jobs/report.py runs/omniglot
    python jobs/report.py s3://bucket/runs/omniglot --out omniglot.html

With --out nothing is written into the run. Pictures come from the image cache (RAYFS_CACHE); where it lacks them, the
report says how to get them and has everything else. Exit code 0: done, 2: wrong input.
"""

import sys

from rayfs.experiments.report.flags import ReportConfig
from rayfs.flags.command_line import run_job


def main(config: ReportConfig) -> int:
    from rayfs.experiments.report.job import run_report  # torch takes seconds to import

    return run_report(config)


if __name__ == "__main__":
    sys.exit(run_job(main, ReportConfig, __doc__))
