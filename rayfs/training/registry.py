"""Objectives by name, as `--objective` takes them."""

from torch import nn

from rayfs.datasets.image_table import ImageTable
from rayfs.datasets.registry import Benchmark
from rayfs.randomness import torch_generator
from rayfs.training.config import PretrainConfig
from rayfs.training.cosine import cosine
from rayfs.training.cross_entropy import CrossEntropy
from rayfs.training.ier_distill import IerDistill
from rayfs.training.ier_gen0 import IerGen0
from rayfs.training.objective import Networks, Objective
from rayfs.training.rfs_distill import RfsDistill
from rayfs.training.skd_gen0 import SkdGen0
from rayfs.training.skd_gen1 import SkdGen1

CONTRAST = ("gamma", "negatives", "memory_momentum", "contrast_temperature")
DISTILLATION = ("ce_weight", "kd_weight", "temperature")


def create_objective(
    config: PretrainConfig, backbone: nn.Module, teacher: Networks | None, benchmark: Benchmark, base: ImageTable
) -> Objective:
    """Return the objective of `config` (resolved), its heads freshly drawn from the seed.

    Arguments:
        backbone: fresh; not used by skd-gen1, which starts from a copy of the teacher.
        teacher: from `load_teacher`, for those that need one.
    """
    generator, n_classes = torch_generator(config.seed, "head"), len(base.class_names)

    def settings(*names: str) -> dict:
        return {name: getattr(config, name) for name in names}

    if teacher is None:
        match config.objective:
            case "cross-entropy" | "rfs-simple":
                return CrossEntropy(backbone, benchmark, n_classes, config.rotations, generator=generator)
            case "skd-gen0":
                return SkdGen0(backbone, benchmark, n_classes, **settings("gamma"), generator=generator)
            case "ier-gen0":
                return IerGen0(backbone, benchmark, n_classes, len(base), **settings(*CONTRAST), generator=generator)
            case "cosine":
                return cosine(backbone, benchmark, n_classes, **settings("initial_scale"), generator=generator)
            case "balanced-softmax":
                counts = base.class_counts().tolist()
                return cosine(
                    backbone, benchmark, n_classes, **settings("initial_scale"), counts=counts, generator=generator
                )
    else:
        match config.objective:
            case "rfs-distill":
                return RfsDistill(
                    backbone, teacher, benchmark, n_classes, **settings(*DISTILLATION), generator=generator
                )
            case "skd-gen1":
                return SkdGen1(teacher, benchmark, **settings("gamma", "temperature"))
            case "ier-distill":
                return IerDistill(
                    backbone, teacher, benchmark, n_classes, len(base), **settings(*CONTRAST, *DISTILLATION),
                    generator=generator,
                )  # fmt: skip
    raise AssertionError(f"{config.objective} {'with' if teacher else 'without'} a teacher")
