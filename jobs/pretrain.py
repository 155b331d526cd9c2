"""Train an embedding on the base classes of a benchmark, over Ray Train.

Validation classes choose the epoch to keep; test classes are never read. The same command again goes on where a killed
run stopped. Beside the checkpoint: a sidecar (.json), the learning curve as rows (.curve.parquet) and figure
(.curve.svg).

    python jobs/pretrain.py --benchmark omniglot --rotations --out runs/omniglot.safetensors
    python jobs/pretrain.py --objective rfs-simple --benchmark cifar-fs --data DIR --out runs/rfs.safetensors
    python jobs/pretrain.py --objective rfs-distill --teacher runs/rfs.safetensors --benchmark cifar-fs --data DIR \\
        --out runs/rfs_distill.safetensors
    python jobs/pretrain.py --objective cosine --benchmark cifar100-lt --backbone resnet32 --data DIR \\
        --out runs/cifar100_lt.safetensors
    python jobs/pretrain.py --objective cosine --benchmark cifar100-lt --backbone resnet32 --data DIR \\
        --base-classes not:few --out runs/cifar100_lt_unseen.safetensors

On the long-tailed benchmarks every split has the same classes: there the accuracy of the trained classifier on
validation images chooses the epoch, and no test image is ever read. --base-classes not:few trains without the few-shot
classes, which jobs/long_tail_eval.py then recognises as classes that the network never saw.
"""

import sys
from dataclasses import dataclass, fields
from pathlib import Path

from rayfs.errors import InputError
from rayfs.flags.command_line import run_job
from rayfs.training.config import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class Config(PretrainConfig):
    benchmark: str = "omniglot"
    """omniglot, omniglot-one-shot (the same base classes), cifar-fs, fc100, folder, or long-tailed: cifar100-lt,
    cifar100-lt-50, cifar100-lt-10, imagenet-lt, places-lt."""
    data: str | None = None
    """Folder of the images; without it $RAYFS_DATA/cifar100 for CIFAR. folder: holds train/ val/ test/;
    imagenet-lt and places-lt: holds the official lists and the images they name."""
    image_size: int | None = None
    """Pixels; default: the benchmark's own."""
    base_classes: tuple[str, ...] = ()
    """Train on these base classes only: names of classes, superclasses or groups (animals, plants, people, things,
    scenes; alphabets of omniglot), or all but not:NAME. For far domains. Long-tailed: many, medium and few, too, by
    training images (few ≤ 20, many ≥ 100; few-kang < 20, many-kang > 100); not:few keeps their validation images out,
    too."""
    validation_classes: tuple[str, ...] = ()
    """Choose the epoch on these validation classes only, named in the same way; not for long-tailed benchmarks."""
    backbone: str = "conv4"
    """conv4, conv4-32, conv4-flat, conv4-32-flat, resnet12, seresnet12, resnet20, resnet32, resnet44, resnet56,
    resnet110 (the five of CIFAR), wrn-DEPTH-WIDTH (wrn-28-10), resnet18, resnet50, resnet101, resnet152, resnext50,
    mobilenet-WIDTH (mobilenet-0.5), or timm:NAME where timm is installed."""
    out: Path
    """The checkpoint to write (.safetensors)."""
    workers: int = 1
    """Processes that share each batch, one GPU each where there are GPUs; 0: this process, without Ray."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int = 0
    """CPU threads of each worker; 0: an even share of all."""


def main(config: Config) -> int:
    if config.out.suffix != ".safetensors":
        raise InputError(f"--out is '{config.out}'; expected a file name that ends in .safetensors")
    from rayfs.distributed.training_workers import (
        run_pretraining,  # torch takes seconds to import; wrong flags should not
    )

    given = {field.name: getattr(config, field.name) for field in fields(config)}
    training = PretrainConfig(**{field.name: given.pop(field.name) for field in fields(PretrainConfig)})
    run_pretraining(**given, config=training, command=sys.argv)
    return 0


if __name__ == "__main__":
    sys.exit(run_job(main, Config, __doc__))
