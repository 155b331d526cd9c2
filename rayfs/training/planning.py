"""A training, checked before its first step: the command line, the data, the teacher, the place for the result.

Runs where the command was given; the plan (`plan.py`) then travels to the workers.
"""

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from rayfs.backbones.checkpoint_files import SAFETENSORS_SUFFIX, write_failures_explained
from rayfs.backbones.registry import create_backbone
from rayfs.datasets.class_groups import restrict
from rayfs.datasets.image_table import cache_folder, load_table
from rayfs.datasets.registry import Benchmark, open_benchmark
from rayfs.errors import InputError
from rayfs.randomness import torch_generator
from rayfs.training.chosen_classes import restrict_shared
from rayfs.training.config import PretrainConfig
from rayfs.training.initial import stage_initial
from rayfs.training.plan import TrainingPlan
from rayfs.training.resolve import resolve
from rayfs.training.teacher import load_teacher, refuse_unfit, stage_teacher
from rayfs.training.team import refuse_uneven


def plan_training(
    *,
    benchmark: str,
    data: str | None,
    image_size: int | None,
    backbone: str,
    config: PretrainConfig,
    n_workers: int,
    out: Path,
    command: Sequence[str],
    base_classes: Sequence[str] = (),
    validation_classes: Sequence[str] = (),
) -> TrainingPlan:
    """Check everything that can be known before the first step and decode the images; test classes are never opened.

    Raises:
        InputError: wrong names, data, teacher or place.
    """
    opened = open_benchmark(benchmark, data, image_size)
    opened, left_out = _restrict(opened, base_classes, validation_classes)
    settings = resolve(config, opened.name)
    if settings.teacher_backbone == backbone:
        settings = replace(settings, teacher_backbone=None)
    refuse_uneven(settings.batch, settings.definition.unit, n_workers)
    if "validation" not in opened.sources:
        raise InputError(
            f"benchmark '{opened.name}' has no validation classes, which choose the epoch to keep; add some"
        )
    network = create_backbone(backbone, opened.channels, opened.image_size, torch_generator(settings.seed, "backbone"))
    if settings.teacher:
        refuse_unfit(settings.definition, settings.teacher_backbone or backbone, backbone, opened)
    make_folder(out)
    cache = cache_folder()
    sources = [opened.source(split, cache) for split in ("base", "validation")]  # both before any image is decoded
    base, validation = (
        load_table(source, cache, channels=opened.channels, image_size=opened.image_size) for source in sources
    )
    plan = TrainingPlan(
        benchmark=opened, backbone=backbone, config=settings, base=base.fingerprint, validation=validation.fingerprint,
        cache_dir=cache, out=out.resolve(), n_workers=n_workers, left_out=left_out,
        command=shlex.join(["python", *command]),
    )  # fmt: skip
    plan.validation_measure()  # refuses what does not fit now, not after the first epoch
    return _with_teacher(_with_initial(plan, network), len(base.class_names))


def _with_initial(plan: TrainingPlan, network: nn.Module) -> TrainingPlan:
    """Return the plan with the weights of --init in the cache."""
    if not plan.config.init:
        return plan
    path, found, report = stage_initial(plan.config.init, plan.backbone, network, plan.cache_dir)
    print(f"init: {report}")
    return replace(plan, init=path, init_hash=found)


def _with_teacher(plan: TrainingPlan, n_classes: int) -> TrainingPlan:
    """Return the plan with the weights of --teacher in the cache."""
    config, backbone = plan.config, plan.teacher_backbone
    if not config.teacher:
        return plan
    loaded = load_teacher(config.teacher, config.definition, backbone, plan.benchmark, n_classes)
    print(f"teacher: {loaded.report}")
    path, found = stage_teacher(loaded.networks, backbone, plan.cache_dir)
    return replace(plan, teacher=path, teacher_hash=found)


def _restrict(
    benchmark: Benchmark, base: Sequence[str], validation: Sequence[str]
) -> tuple[Benchmark, tuple[str, ...]]:
    """Return the benchmark with the chosen classes alone, and those left out of a long-tailed one."""
    if not benchmark.shared_classes:
        return restrict(benchmark, base, validation, "validation", "--validation-classes"), ()
    if validation:
        raise InputError(
            f"--validation-classes is {' '.join(validation)}, but the classes of {benchmark.name} are the same in "
            "every split: --base-classes chooses those of the validation images, too"
        )
    return restrict_shared(benchmark, base, cache_folder()) if base else (benchmark, ())


def make_folder(out: Path) -> None:
    """Make the folder of `out`, refusing another ending and a place that cannot be written.

    Raises:
        InputError: see above.
    """
    if out.suffix != SAFETENSORS_SUFFIX or "://" in str(out) or str(out).startswith(("s3:/", "gs:/")):
        raise InputError(
            f"--out is '{out}'; expected the path of a file that ends in {SAFETENSORS_SUFFIX}, on a disk that all "
            "nodes share"
        )
    with write_failures_explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
