"""The published hyper-parameters of every objective and benchmark: what stands for a flag that is not given. No torch.

Benchmarks without published ones (omniglot, folder) have those of CIFAR-FS; the job prints what it uses.

RFS: Tian et al., ECCV 2020, released code, and its author's answer in issue 5 for CIFAR and tieredImageNet.
SKD: Rajasegaran et al., "Self-supervised Knowledge Distillation for Few-shot Learning", BMVC 2021, released code.
IER: Rizve et al., "Exploring Complementary Strengths of Invariant and Equivariant Representations for Few-Shot
Learning", CVPR 2021, released code. The embedding code behind Label Hallucination repairs SKD gen1 and says which of
its weights works best on miniImageNet.
"""

from dataclasses import fields, replace
from typing import Any

from rayfs.errors import InputError
from rayfs.training.config import PretrainConfig

STEP_SCHEDULE = {
    "batch": 64, "lr": 0.05, "weight_decay": 5e-4, "schedule": "step", "lr_decay": 0.1, "sampler": "uniform",
}  # fmt: skip
"""RFS, SKD gen0 and IER."""

RFS_EPOCHS: dict[str, dict[str, Any]] = {
    "mini-imagenet": {"epochs": 100, "decay_at": (0.6, 0.8)},
    "tiered-imagenet": {"epochs": 60, "decay_at": (1 / 2, 2 / 3, 5 / 6)},
}
RFS_EPOCHS_ELSEWHERE = {"epochs": 90, "decay_at": (1 / 2, 2 / 3, 5 / 6)}
"""CIFAR-FS and FC100 (45, 60 and 75 of 90)."""

SELF_SUPERVISED_EPOCHS: dict[str, dict[str, Any]] = {
    "tiered-imagenet": {"epochs": 60, "decay_at": (1 / 2, 2 / 3, 5 / 6)},
}
SELF_SUPERVISED_EPOCHS_ELSEWHERE = {"epochs": 65, "decay_at": (60 / 65,)}
"""SKD gen0 and IER."""

SKD_GEN1: dict[str, dict[str, Any]] = {
    "fc100": {"epochs": 8, "decay_at": (3 / 8,), "gamma": 0.2},
    "mini-imagenet": {"epochs": 8, "decay_at": (5 / 8,), "gamma": 0.025},
}
SKD_GEN1_ELSEWHERE = {"epochs": 65, "decay_at": (60 / 65,), "gamma": 0.1}
"""CIFAR-FS. No setting is documented for tieredImageNet."""

IER = {"gamma": 1.0, "negatives": 6400, "memory_momentum": 0.99, "contrast_temperature": 1.0}

COSINE = {
    "epochs": 90, "batch": 512, "lr": 0.2, "weight_decay": 5e-4, "schedule": "cosine", "initial_scale": 16.0,
    "sampler": "square-root",
}  # fmt: skip
"""Stage 1 of compositional knowledge transfer on ImageNet-LT with a ResNeXt-50."""

_CIFAR100_LT = {"epochs": 200, "batch": 128, "lr": 0.1, "weight_decay": 2e-4}
"""LDAM's code (Cao et al., NeurIPS 2019) for ResNet-32, with the cosine schedule of compositional knowledge transfer
instead of its warm-up and two steps."""

LONG_TAIL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("cifar100-lt", "cifar100-lt-50", "cifar100-lt-10"), _CIFAR100_LT),
    "places-lt": {"epochs": 10, "batch": 128, "lr": 0.001, "head_lr": 0.1},
}
"""How `cosine` and `balanced-softmax` differ from `COSINE`; places-lt: ResNet-152 from ImageNet (--init)."""

SPECIFIC: dict[str, tuple[str, ...]] = {
    "cross-entropy": ("rotations",),
    "rfs-simple": (),
    "rfs-distill": ("teacher", "temperature", "ce_weight", "kd_weight"),
    "skd-gen0": ("gamma",),
    "skd-gen1": ("teacher", "gamma", "temperature"),
    "ier-gen0": ("gamma", "negatives", "memory_momentum", "contrast_temperature"),
    "ier-distill": (
        "teacher", "gamma", "negatives", "memory_momentum", "contrast_temperature", "temperature", "ce_weight",
        "kd_weight",
    ),
    "cosine": ("initial_scale",),
    "balanced-softmax": ("initial_scale",),
}  # fmt: skip
"""The fields of PretrainConfig that only some objectives have."""


def recipe(objective: str, benchmark: str) -> dict[str, Any]:
    """Return the published value of every field that is None by default, for those that `objective` has."""
    rfs = {**STEP_SCHEDULE, **RFS_EPOCHS.get(benchmark, RFS_EPOCHS_ELSEWHERE)}
    turned = {**STEP_SCHEDULE, **SELF_SUPERVISED_EPOCHS.get(benchmark, SELF_SUPERVISED_EPOCHS_ELSEWHERE)}
    match objective:
        case "cross-entropy" | "rfs-simple":
            return rfs
        case "rfs-distill":
            return {**rfs, "temperature": 4.0, "ce_weight": 0.5, "kd_weight": 0.5}
        case "skd-gen0":
            return {**turned, "gamma": 2.0}
        case "skd-gen1":
            return {**STEP_SCHEDULE, **SKD_GEN1.get(benchmark, SKD_GEN1_ELSEWHERE), "lr": 0.001, "temperature": 2.0}
        case "ier-gen0":
            return {**turned, **IER}
        case "ier-distill":
            return {**turned, **IER, "temperature": 4.0, "ce_weight": 1.0, "kd_weight": 1.0}
        case "cosine":
            return {**COSINE, **LONG_TAIL.get(benchmark, {})}
        case "balanced-softmax":  # every image once: the class counts are in the loss
            return {**COSINE, **LONG_TAIL.get(benchmark, {}), "sampler": "uniform"}
    raise AssertionError(f"no recipe for {objective}")


def resolve(config: PretrainConfig, benchmark: str) -> PretrainConfig:
    """Return `config` with the published values of `benchmark` where it has None; what does not apply stays None.

    Raises:
        InputError: a flag that the objective does not have, or a missing teacher.
    """
    specific = {name for names in SPECIFIC.values() for name in names}
    for name in sorted(specific - set(SPECIFIC[config.objective])):
        if getattr(config, name) is not None and getattr(config, name) is not False:
            users = ", ".join(objective for objective, names in SPECIFIC.items() if name in names)
            raise InputError(
                f"--{name.replace('_', '-')} is {getattr(config, name)} but --objective {config.objective} has no such "
                f"setting; drop it, or choose an objective that does: {users}"
            )
    published = recipe(config.objective, benchmark)
    schedule = config.schedule or published["schedule"]
    if schedule == "step":
        published = {**RFS_EPOCHS_ELSEWHERE, **STEP_SCHEDULE, **published}
    for name in ("lr_decay", "decay_at") if schedule == "cosine" else ():
        published.pop(name, None)
        if getattr(config, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')} is {getattr(config, name)} but the schedule is cosine; drop it, or give "
                "--schedule step"
            )
    if "teacher" in SPECIFIC[config.objective] and not config.teacher:
        raise InputError(
            f"--objective {config.objective} distils from a teacher; give --teacher CHECKPOINT, made by "
            f"--objective {TEACHERS[config.objective]}"
        )
    if config.init and config.objective == "skd-gen1":
        raise InputError(f"--init is {config.init} but --objective skd-gen1 starts from its teacher; drop --init")
    filled = {name: value for name, value in published.items() if getattr(config, name) is None}
    return replace(config, **filled)


TEACHERS = {"rfs-distill": "rfs-simple", "skd-gen1": "skd-gen0", "ier-distill": "ier-gen0"}
"""The objective whose checkpoint an objective starts from."""

assert {name for names in SPECIFIC.values() for name in names} <= {field.name for field in fields(PretrainConfig)}
