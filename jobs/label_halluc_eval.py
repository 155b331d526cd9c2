"""Evaluate Label Hallucination, and its frozen baseline, over few-shot episodes.

    python jobs/label_halluc_eval.py --out runs/omniglot
    python jobs/label_halluc_eval.py --benchmark cifar-fs --data DIR --n-shot 5 --out runs/cifar-fs
    ray job submit --working-dir . -- python jobs/label_halluc_eval.py --out /shared/runs/omniglot

Rerunning a command resumes it; more --episodes continue it. Exit code 0: all done, 1: some episodes failed, 2: wrong
input.
"""

import sys

from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.flags.command_line import run_job


def main(config: EvalConfig) -> int:
    from rayfs.experiments.episodes.job import run_label_halluc_eval  # torch takes seconds to import

    return run_label_halluc_eval(config, command=["python", *sys.argv])


if __name__ == "__main__":
    sys.exit(run_job(main, EvalConfig, __doc__))
