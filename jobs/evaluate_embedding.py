"""Evaluate a frozen embedding: simple classifiers of its features over many few-shot episodes.

    python jobs/evaluate_embedding.py --n-way 5 --n-shot 1 5 --episodes 10000
    python jobs/evaluate_embedding.py --benchmark cifar-fs --data DIR --checkpoint FILE --out runs/a

Features are computed once and cached. With --out, rerunning a command resumes it and more --episodes continue it.
Exit code 0: all done, 1: some episodes failed, 2: wrong input.
"""

import sys

from rayfs.experiments.embeddings.flags import EmbeddingEvalConfig
from rayfs.flags.command_line import run_job


def main(config: EmbeddingEvalConfig) -> int:
    from rayfs.experiments.embeddings.job import run_evaluate_embedding  # torch takes seconds to import

    return run_evaluate_embedding(config, command=["python", *sys.argv])


if __name__ == "__main__":
    sys.exit(run_job(main, EmbeddingEvalConfig, __doc__))
