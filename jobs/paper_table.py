"""Run a table of the Label Hallucination paper, and set it beside the published figures.

    python jobs/paper_table.py --table 3 --benchmark fc100 --data DIR --out runs/tables
    python jobs/paper_table.py --table 5 --backbone resnet12 --checkpoints DIR --out runs/tables

Rerunning a command resumes it, more --episodes continue it, and tables of one --out share their rows. Rows whose
embedding is not at hand say so. Exit code 0: all done, 1: some episodes failed, 2: wrong input.
"""

import sys

from rayfs.experiments.tables.flags import PaperTableConfig
from rayfs.flags.command_line import run_job


def main(config: PaperTableConfig) -> int:
    from rayfs.experiments.tables.job import run_paper_table  # torch takes seconds to import

    return run_paper_table(config, command=["python", *sys.argv])


if __name__ == "__main__":
    sys.exit(run_job(main, PaperTableConfig, __doc__))
