"""A training, checked before its first step: the command line, the data, the teacher, the place for the result.

Runs where the command was given; the plan then travels to the workers (`run.py`).
"""

import json
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from rayfs.backbones.checkpoint_files import SAFETENSORS_SUFFIX, write_failures_explained
from rayfs.backbones.registry import create_backbone
from rayfs.datasets.class_groups import restrict
from rayfs.datasets.image_table import ImageTable, cache_folder, load_table, open_table
from rayfs.datasets.registry import Benchmark, open_benchmark
from rayfs.errors import InputError
from rayfs.randomness import torch_generator
from rayfs.training.chosen_classes import restrict_shared
from rayfs.training.config import PretrainConfig, TrainingConfig
from rayfs.training.initial import stage_initial
from rayfs.training.resolve import resolve
from rayfs.training.teacher import load_teacher, refuse_unfit, stage_teacher
from rayfs.training.team import refuse_uneven
from rayfs.training.training_state import read_state, refuse_other, state_path
from rayfs.training.validation import EPISODE_SETTINGS, Validation


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A training that was checked; small and plain, so that it travels to the workers."""

    benchmark: Benchmark
    backbone: str
    config: TrainingConfig
    """`on` decides the precision."""
    base: str
    """Fingerprint of the base table in the cache."""
    validation: str
    """Fingerprint of the validation table in the cache."""
    cache_dir: Path
    out: Path
    """Absolute."""
    n_workers: int
    """Processes that train together, 1 or more."""
    device_type: str = "cpu"
    """cpu or cuda."""
    teacher: Path | None = None
    """The teacher's weights in the cache, named by their hash."""
    teacher_hash: str | None = None
    """Of all weights of the teacher."""
    init: Path | None = None
    """The weights that the backbone starts from, in the cache."""
    init_hash: str | None = None
    """Of those weights."""
    left_out: tuple[str, ...] = ()
    """Classes of a long-tailed benchmark that are not trained on; the tables say so, too."""
    command: str

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two trainings the same; valid JSON."""
        settings = {
            "benchmark": self.benchmark.name,
            "image_size": self.benchmark.image_size,
            "augmentation": asdict(self.benchmark.augmentation),
            "base_table": self.base,
            "validation_table": self.validation,
            "backbone": self.backbone,
            "training": {
                "rotations": False,  # which files of all objectives say that were written before
                **self.config.as_dict(),
                "teacher": self.teacher_hash,
                "init": self.init_hash,
            },
            "workers": None if self.config.definition.any_workers else self.n_workers,
            "device": self.device_type,
        }
        plain: dict[str, Any] = json.loads(json.dumps(settings))
        return plain

    @property
    def teacher_backbone(self) -> str:
        """The teacher's; the student's unless the settings say otherwise."""
        return self.config.teacher_backbone or self.backbone

    def on(self, device_type: str) -> "TrainingPlan":
        """Return this training on a device type (cpu, cuda), which decides the precision where it is auto."""
        precision = self.config.precision
        if precision == "auto":
            precision = "bf16" if device_type == "cuda" else "float32"
        return replace(self, device_type=device_type, config=replace(self.config, precision=precision))

    def tables(self) -> tuple[ImageTable, ImageTable]:
        """Return the base and the validation table."""
        return open_table(self.cache_dir, self.base), open_table(self.cache_dir, self.validation)

    def validation_measure(self) -> Validation:
        """Return what chooses the epoch to keep, as the objective has it."""
        base, validation = self.tables()
        create = self.config.definition.create_validation()
        return create(self.config, self.benchmark, base.class_names, validation)


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


def describe(plan: TrainingPlan) -> str:
    """Return two lines: what is trained on what, and with which settings, published or given."""
    (base, _), validation = plan.tables(), plan.validation_measure()
    benchmark, workers = plan.benchmark, f"{plan.n_workers} worker{'s' if plan.n_workers > 1 else ''}"
    unsaid = {"objective", "precision", *(EPISODE_SETTINGS - validation.settings)}
    settings = {
        name: value
        for name, value in plan.config.as_dict().items()
        if name not in unsaid and value is not None and value is not False
    }
    left_out = f" ({len(plan.left_out)} left out)" if plan.left_out else ""
    return (
        f"{plan.config.objective}: {plan.backbone} on {benchmark.name}, {len(base):,} base images of "
        f"{len(base.class_names)} classes{left_out}, {validation.images}, "
        f"{benchmark.image_size} px, {workers}, {plan.device_type}, {plan.config.precision}\n"
        + ", ".join(f"{name} {_plain(value)}" for name, value in settings.items())
    )


def finished_before(plan: TrainingPlan) -> list[dict[str, Any]] | None:
    """Return the learning curve of the training of `plan` where it is done already; resuming it is up to `train`.

    Raises:
        InputError: the checkpoint, or the state of an unfinished training, belongs to another one.
    """
    state = read_state(state_path(plan.out))
    if state is not None:
        refuse_other(state_path(plan.out), state.identity, plan.identity)
    if not plan.out.exists():
        return None
    try:
        metadata = json.loads(plan.out.with_suffix(".json").read_text())["metadata"]
        identity, complete, curve = metadata["identity"], metadata["complete"], metadata["curve"]
    except (OSError, ValueError, KeyError, TypeError):
        if state is not None:  # which has the best weights, too: `train` writes them again
            return None
        raise InputError(
            f"{plan.out} exists and does not say which training it is from; give another --out, or remove it"
        ) from None
    refuse_other(plan.out, identity, plan.identity)
    rows: list[dict[str, Any]] = curve
    return rows if complete else None


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


def _plain(value: Any) -> str:
    return "/".join(f"{part:.3g}" for part in value) if isinstance(value, tuple) else str(value)
