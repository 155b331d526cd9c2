"""A training that was checked (`planning.py`), as it travels to the workers (`run.py`)."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rayfs.datasets.image_table import ImageTable, open_table
from rayfs.datasets.registry import Benchmark
from rayfs.errors import InputError
from rayfs.training.config import TrainingConfig
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


def _plain(value: Any) -> str:
    return "/".join(f"{part:.3g}" for part in value) if isinstance(value, tuple) else str(value)
