"""Evaluate classifiers for a long tail: a trained cosine head, prototypes, and what knowledge transfer makes of them.

    python jobs/long_tail_eval.py --benchmark cifar100-lt
    python jobs/long_tail_eval.py --checkpoint a.pth b.pth --search 5000 --out runs/long-tail

Few-shot classes that the network has never seen in training:

    python jobs/pretrain.py --objective cosine --benchmark cifar100-lt --backbone resnet32 \\
        --base-classes not:few --out unseen.safetensors
    python jobs/long_tail_eval.py --checkpoint unseen.safetensors

Features are computed once and cached; the rest takes seconds. Exit code 0: done, 2: wrong input.
"""

import sys

from rayfs.experiments.long_tail.flags import LongTailEvalConfig
from rayfs.flags.command_line import run_job


def main(config: LongTailEvalConfig) -> int:
    from rayfs.experiments.long_tail.job import run_long_tail_eval  # torch takes seconds to import

    return run_long_tail_eval(config, command=["python", *sys.argv])


if __name__ == "__main__":
    sys.exit(run_job(main, LongTailEvalConfig, __doc__))
