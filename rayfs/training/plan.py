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

from rayfs.backbones.checkpoint_files import SAFETENSORS_SUFFIX, write_failures_explained
from rayfs.backbones.registry import create_backbone
from rayfs.datasets.class_groups import restrict
from rayfs.datasets.image_table import ImageTable, cache_folder, load_table, open_table
from rayfs.datasets.registry import Benchmark, open_benchmark
from rayfs.errors import InputError
from rayfs.randomness import torch_generator
from rayfs.training.chosen_classes import restrict_shared
from rayfs.training.config import PretrainConfig
from rayfs.training.initial import stage_initial
from rayfs.training.recipes import resolve
from rayfs.training.teacher import load_teacher, stage_teacher
from rayfs.training.training_state import read_state, refuse_other, state_path
from rayfs.training.validation import validation_protocol


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A training that was checked; small and plain, so that it travels to the workers."""

    benchmark: Benchmark
    backbone: str
    config: PretrainConfig
    """Resolved: nothing that applies is None; `on` decides the precision."""
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
    teacher: Path | None
    """The teacher's weights in the cache, named by their hash."""
    teacher_hash: str | None
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
            "training": {**asdict(self.config), "teacher": self.teacher_hash, "init": self.init_hash},
            "workers": self.n_workers,
            "device": self.device_type,
        }
        return json.loads(json.dumps(settings))

    def on(self, device_type: str) -> "TrainingPlan":
        """Return this training on a device type (cpu, cuda), which decides the precision where it is auto."""
        precision = self.config.precision
        if precision == "auto":
            precision = "bf16" if device_type == "cuda" else "float32"
        return replace(self, device_type=device_type, config=replace(self.config, precision=precision))

    def tables(self) -> tuple[ImageTable, ImageTable]:
        """Return the base and the validation table."""
        return open_table(self.cache_dir, self.base), open_table(self.cache_dir, self.validation)


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
    config = resolve(config, opened.name)
    assert config.batch is not None, "it is resolved"
    if config.batch % n_workers:
        raise InputError(
            f"a batch of {config.batch} images cannot be shared evenly by {n_workers} workers; choose --workers or "
            "--batch so that one divides the other"
        )
    if "validation" not in opened.sources:
        raise InputError(
            f"benchmark '{opened.name}' has no validation classes, which choose the epoch to keep; add some"
        )
    network = create_backbone(backbone, opened.channels, opened.image_size, torch_generator(config.seed, "backbone"))
    make_folder(out)
    cache = cache_folder()
    sources = [opened.source(split, cache) for split in ("base", "validation")]  # both before any image is decoded
    base, validation = (
        load_table(source, cache, channels=opened.channels, image_size=opened.image_size) for source in sources
    )
    if not opened.shared_classes:
        validation_protocol(config, validation)  # refuses what does not fit now, not after the first epoch
    teacher, teacher_hash, init, init_hash = None, None, None, None
    if config.init:
        init, init_hash, report = stage_initial(config.init, backbone, network, cache)
        print(f"init: {report}")
    if config.teacher:
        networks, report = load_teacher(config.teacher, config.objective, backbone, opened, len(base.class_names))
        print(f"teacher: {report}")
        teacher, teacher_hash = stage_teacher(networks, backbone, cache)
    return TrainingPlan(
        benchmark=opened, backbone=backbone, config=config, base=base.fingerprint, validation=validation.fingerprint,
        cache_dir=cache, out=out.resolve(), n_workers=n_workers, teacher=teacher, teacher_hash=teacher_hash,
        init=init, init_hash=init_hash, left_out=left_out,
        command=shlex.join(["python", *command]),
    )  # fmt: skip


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
    base, validation = plan.tables()
    benchmark, workers = plan.benchmark, f"{plan.n_workers} worker{'s' if plan.n_workers > 1 else ''}"
    settings = {name: value for name, value in asdict(plan.config).items() if value is not None and value is not False}
    episodes = ("validation_n_way", "validation_n_shot", "validation_episodes") if benchmark.shared_classes else ()
    for name in ("objective", "precision", *episodes):
        del settings[name]
    validated = f"{len(validation.class_names)} validation classes"
    if benchmark.shared_classes:
        validated = f"{len(validation):,} validation images of {len(validation.class_names)} of them"
    left_out = f" ({len(plan.left_out)} left out)" if plan.left_out else ""
    return (
        f"{plan.config.objective}: {plan.backbone} on {benchmark.name}, {len(base):,} base images of "
        f"{len(base.class_names)} classes{left_out}, {validated}, "
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
    return curve if complete else None


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
