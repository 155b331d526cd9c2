"""Train an embedding on the base classes of a benchmark.

Validation classes choose the epoch to keep; test classes are never read.

    python jobs/pretrain.py --benchmark omniglot --rotations --out runs/conv4_omniglot.safetensors
    python jobs/pretrain.py --benchmark cifar-fs --data DIR --epochs 8 --out runs/conv4_cifar_fs.safetensors
"""

import sys
from dataclasses import dataclass, fields
from pathlib import Path

from rayfs.command_line import run_job
from rayfs.errors import InputError
from rayfs.pretraining.config import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class Config(PretrainConfig):
    benchmark: str = "omniglot"
    """omniglot, cifar-fs, fc100 or folder."""
    data: str | None = None
    """Folder of the images, for benchmarks that are not embedded."""
    image_size: int | None = None
    """Pixels; default: the benchmark's own."""
    backbone: str = "conv4"
    """conv4 or resnet12."""
    out: Path
    """The checkpoint to write (.safetensors); its configuration and learning curve go beside it (.json)."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int = 0
    """CPU threads; 0: all cores."""


def main(config: Config) -> int:
    if config.out.suffix != ".safetensors":
        raise InputError(f"--out is '{config.out}'; expected a file name that ends in .safetensors")
    from rayfs.pretraining.run import run_pretraining  # torch takes seconds to import; wrong flags should not

    given = {field.name: getattr(config, field.name) for field in fields(config)}
    training = PretrainConfig(**{field.name: given.pop(field.name) for field in fields(PretrainConfig)})
    run_pretraining(**given, config=training, command=sys.argv)
    return 0


if __name__ == "__main__":
    sys.exit(run_job(main, Config, __doc__))
