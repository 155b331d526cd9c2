"""Flags of `jobs/pretrain.py`. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from rayfs.errors import InputError
from rayfs.flags.flag import Shown
from rayfs.training.config import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class PretrainFlags(PretrainConfig):
    """The settings of a training as given, and where it reads, runs and writes."""

    benchmark: Annotated[str, Shown(title="Images")] = "omniglot"
    """omniglot, omniglot-one-shot, cifar-fs, fc100, folder, or long-tailed: cifar100-lt, cifar100-lt-50,
    cifar100-lt-10, imagenet-lt, places-lt."""
    data: Annotated[str | None, Shown(value="DIR")] = None
    """Folder of the images; default for CIFAR: $RAYFS_DATA/cifar100. folder: train/ val/ test/; imagenet-lt and
    places-lt: the official lists and the images they name."""
    image_size: int | None = None
    """Pixels; default: the benchmark's own."""
    base_classes: tuple[str, ...] = ()
    """Only these base classes; default: all. Names of classes, superclasses or groups (animals, plants, people, things,
    scenes; alphabets), or not:NAME for all but one. Long-tailed: many (≥ 100 images), medium, few (≤ 20), too, or
    many-kang (> 100) and few-kang (< 20); also of validation images."""
    validation_classes: tuple[str, ...] = ()
    """Only these validation classes, named in the same way; default: all. Not long-tailed."""
    backbone: Annotated[str, Shown(title="Backbone")] = "conv4"
    """conv4, conv4-32, conv4-flat, conv4-32-flat, resnet12, seresnet12, resnet20, resnet32, resnet44, resnet56,
    resnet110 (the five of CIFAR), wrn-DEPTH-WIDTH (wrn-28-10), resnet18, resnet50, resnet101, resnet152, resnext50,
    mobilenet-WIDTH (mobilenet-0.5), or timm:NAME where timm is installed."""
    workers: Annotated[int, Shown(title="Workers")] = 1
    """Processes that share each batch, a GPU each if there are; 0: this one, without Ray."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int = 0
    """CPU threads of each worker; 0: an even share of all."""
    out: Annotated[Path, Shown(value="FILE", title="Output")]
    """The checkpoint to write (.safetensors)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out.suffix != ".safetensors":
            raise InputError(f"--out is '{self.out}'; expected a file name that ends in .safetensors")

    def training(self) -> PretrainConfig:
        """Return the settings of the training alone."""
        return PretrainConfig(**{setting.name: getattr(self, setting.name) for setting in fields(PretrainConfig)})
