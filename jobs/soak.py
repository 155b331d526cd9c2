"""Run the main job while its workers and nodes die, and count what is lost.

    python jobs/soak.py --out runs/soak     # 2,000 episodes, some minutes on 2 cores
    python jobs/soak.py --episodes 400 --kill-every 2 --node-every 3 --out runs/soak-quick

A Ray cluster of several raylets on this machine; first a quiet run of jobs/label_halluc_eval.py, then the same command
while workers are killed with SIGKILL and nodes are lost and come back. Prints a tally. Exit code 0: every episode done
once, with the rows of the quiet run, and the driver's memory flat; 1: not so, 2: wrong input.
"""

import sys
from pathlib import Path

from rayfs.flags.command_line import run_job
from rayfs.performance.soak_flags import SoakConfig


def main(config: SoakConfig) -> int:
    from rayfs.performance.soak import run_soak  # torch takes seconds to import

    return run_soak(config, Path(__file__).with_name("label_halluc_eval.py"))


if __name__ == "__main__":
    sys.exit(run_job(main, SoakConfig, __doc__))
