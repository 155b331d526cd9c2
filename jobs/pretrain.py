"""Train an embedding on the base classes of a benchmark, over Ray Train.

Validation classes choose the epoch to keep; test classes are never read. The same command again goes on where a killed
run stopped. Beside the checkpoint: a sidecar (.json), the learning curve as rows (.curve.parquet) and figure
(.curve.svg).

    python jobs/pretrain.py --benchmark omniglot --rotations --out runs/omniglot.safetensors
    python jobs/pretrain.py --objective rfs-simple --benchmark cifar-fs --out runs/rfs.safetensors
    python jobs/pretrain.py --objective rfs-distill --teacher runs/rfs.safetensors \\
        --benchmark cifar-fs --out runs/rfs_distill.safetensors
    python jobs/pretrain.py --objective cosine --benchmark cifar100-lt --backbone resnet32 \\
        --out runs/cifar100_lt.safetensors
    python jobs/pretrain.py --objective cosine --benchmark cifar100-lt --backbone resnet32 \\
        --base-classes not:few --out runs/cifar100_lt_unseen.safetensors

On the long-tailed benchmarks every split has the same classes: there the accuracy of the trained classifier on
validation images chooses the epoch, and no test image is ever read. --base-classes not:few trains without the few-shot
classes, which jobs/long_tail_eval.py then recognises as classes that the network never saw.
"""

import sys

from rayfs.experiments.training.flags import PretrainFlags
from rayfs.flags.command_line import run_job


def main(flags: PretrainFlags) -> int:
    from rayfs.experiments.training.job import run_pretraining  # torch takes seconds to import; wrong flags should not

    run_pretraining(
        benchmark=flags.benchmark, data=flags.data, image_size=flags.image_size, base_classes=flags.base_classes,
        validation_classes=flags.validation_classes, backbone=flags.backbone, out=flags.out, workers=flags.workers,
        device=flags.device, threads=flags.threads, config=flags.training(), command=sys.argv,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(run_job(main, PretrainFlags, __doc__))
