"""Compare two runs, or two methods, on the same episodes.

    python jobs/compare.py runs/a runs/b                            # all methods of both
    python jobs/compare.py runs/a                                   # against the baseline
    python jobs/compare.py runs/a --methods label-halluc lr         # two methods of one run
    python jobs/compare.py runs/a runs/b --methods label-halluc lr  # one of A, another of B

Pairing is by episode: episodes differ far more in difficulty than methods do in skill, and on the same episodes that
cancels. So runs of different episodes, images or protocols are refused, unless forced (--force-unpaired).

Every figure is given twice. With replacement: over all distinct episodes, which share images; it speaks about these
images, and as a statement about new ones its interval is too narrow, for more episodes narrow it without a new image.
Without replacement: over episodes that share no image (greedily chosen, in order), of which there are far fewer.

Runs are only read. Exit code 0: done, 2: wrong input or a comparison that would mislead.
"""

import sys

from rayfs.experiments.comparison.flags import CompareConfig
from rayfs.flags.command_line import run_job


def main(config: CompareConfig) -> int:
    from rayfs.experiments.comparison.job import run_compare  # what draws and tests takes a while to import

    return run_compare(config)


if __name__ == "__main__":
    sys.exit(run_job(main, CompareConfig, __doc__))
