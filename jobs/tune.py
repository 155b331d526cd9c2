"""Search the settings of a method on validation classes, with Ray Tune.

    python jobs/tune.py --method label-halluc --benchmark cifar-fs --data DIR --out runs/tune
    python jobs/tune.py --tune lr head-lr --space lr=0.01:0.3:log --steps 50 --out runs/tune --final

Every trial sees the same episodes in the same order, and losers stop early. Rerunning a command resumes it; more
--n-trials, or another --space, go on from the rows that exist. --final scores the winner once on test classes.
Exit code 0: all done, 1: some trials failed, 2: wrong input.
"""

import sys

from rayfs.experiments.tuning.flags import TuneConfig
from rayfs.flags.command_line import run_job


def main(config: TuneConfig) -> int:
    from rayfs.experiments.tuning.job import run_tune  # torch takes seconds to import

    return run_tune(config, command=["python", *sys.argv])


if __name__ == "__main__":
    sys.exit(run_job(main, TuneConfig, __doc__))
