"""One training from end to end: checked, trained or resumed, the best epoch's checkpoint and its sidecar written.

`plan_training` runs where the command was given, `train` in every worker process, and neither knows Ray.
"""

import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rayfs
from rayfs.backbones.checkpoint_files import SAFETENSORS_SUFFIX, write_failures_explained
from rayfs.backbones.checkpoints import rewrite_metadata, save_checkpoint
from rayfs.backbones.registry import create_backbone
from rayfs.backbones.state import state_hash
from rayfs.benchmarks.registry import Benchmark, open_benchmark
from rayfs.benchmarks.tables import ImageTable, cache_folder, load_table, open_table
from rayfs.engine.progress import WorkProgress
from rayfs.errors import InputError
from rayfs.pretraining.config import PretrainConfig
from rayfs.pretraining.recipes import resolve
from rayfs.pretraining.registry import create_objective
from rayfs.pretraining.teacher import load_teacher, teacher_accuracy
from rayfs.pretraining.train import EpochReport, Team, Trainer, learning_rate, validate
from rayfs.pretraining.training_state import TrainingState, read_state, refuse_other, state_path, write_state
from rayfs.pretraining.validation import validation_protocol
from rayfs.randomness import torch_generator


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A training that was checked; small and plain, so that it travels to the workers."""

    benchmark: Benchmark
    backbone: str
    config: PretrainConfig
    """Resolved: nothing that applies is None, and the precision is not auto."""
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
    teacher_hash: str | None
    """Of all weights of the teacher."""
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
            "training": {**asdict(self.config), "teacher": self.teacher_hash},
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
) -> TrainingPlan:
    """Check everything that can be known before the first step and decode the images; test classes are never opened.

    Raises:
        InputError: wrong names, data, teacher or place; `out` belongs to another training.
    """
    opened = open_benchmark(benchmark, data, image_size)
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
    create_backbone(backbone, opened.channels, opened.image_size, torch_generator(config.seed, "backbone"))
    make_folder(out)
    cache = cache_folder()
    base, validation = (
        load_table(opened.source(split, cache), cache, channels=opened.channels, image_size=opened.image_size)
        for split in ("base", "validation")
    )
    validation_protocol(config, validation)  # refuses what does not fit now, not after the first epoch
    teacher = None
    if config.teacher:
        teacher = load_teacher(config.teacher, config.objective, backbone, opened, base)
        found = teacher_accuracy(teacher, config.teacher, opened, base)
        print(f"teacher {config.teacher}: {100 * found:.1f}% of base images right")
    return TrainingPlan(
        benchmark=opened, backbone=backbone, config=config, base=base.fingerprint, validation=validation.fingerprint,
        cache_dir=cache, out=out.resolve(), n_workers=n_workers, teacher_hash=state_hash(teacher) if teacher else None,
        command=shlex.join(["python", *command]),
    )  # fmt: skip


def describe(plan: TrainingPlan) -> str:
    """Return one line: what is trained on what."""
    base, validation = plan.tables()
    benchmark, workers = plan.benchmark, f"{plan.n_workers} worker{'s' if plan.n_workers > 1 else ''}"
    return (
        f"{plan.config.objective}: {plan.backbone} on {benchmark.name}, {len(base):,} base images of "
        f"{len(base.class_names)} classes, {len(validation.class_names)} validation classes, "
        f"{benchmark.image_size} px, {workers}, {plan.device_type}, {plan.config.precision}"
    )


def finished_before(plan: TrainingPlan) -> bool:
    """Return whether the training of `plan` is done already; resuming it is up to `train`.

    Raises:
        InputError: the checkpoint, or the state of an unfinished training, belongs to another one.
    """
    state = read_state(state_path(plan.out))
    if state is not None:
        refuse_other(state_path(plan.out), state.identity, plan.identity)
    if not plan.out.exists():
        return False
    try:
        metadata = json.loads(plan.out.with_suffix(".json").read_text())["metadata"]
        identity, complete = metadata["identity"], metadata["complete"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{plan.out} exists and does not say which training it is from; give another --out, or remove it"
        ) from None
    refuse_other(plan.out, identity, plan.identity)
    return complete


def train(
    plan: TrainingPlan,
    device: torch.device,
    say: Callable[[str], None],
    on_epoch: Callable[[list[EpochReport]], None],
) -> None:
    """Train, or go on training, and keep at `plan.out` the epoch that is best on validation classes.

    Ties go to the earlier epoch. All workers call this; the first one validates, writes and speaks.

    Arguments:
        say: prints a line.
        on_epoch: is given the learning curve so far, after every epoch.

    Raises:
        InputError: a loss is not finite, or a file cannot be written.
    """
    team, (base, validation), config = Team.of_this_process(), plan.tables(), plan.config
    trainer = _trainer(plan, base, device, team)
    curve = _resume(plan, trainer, say if team.rank == 0 else lambda line: None)
    epochs, steps = config.epochs or 0, trainer.steps_per_epoch
    progress = WorkProgress(
        "training", "steps", epochs * steps, done=len(curve) * steps, say=say if team.rank == 0 else lambda line: None
    )
    for epoch in range(len(curve) + 1, epochs + 1):
        started = time.monotonic()
        loss, train_accuracy, parts = trainer.train_epoch(epoch, progress.add)
        trained_s = time.monotonic() - started
        if team.rank > 0:
            continue
        trainer.backbone.eval()
        accuracies = validate(trainer.backbone, plan.benchmark, validation, config, device)
        report = EpochReport(
            epoch=epoch, learning_rate=learning_rate(config, epoch), loss=loss, parts=parts,
            train_accuracy=train_accuracy, validation_accuracy=float(accuracies.mean()),
            validation_half_width=float(1.96 * accuracies.std(ddof=1) / len(accuracies) ** 0.5),
            seconds=time.monotonic() - started, images_per_second=steps * trainer.batch / trained_s,
        )  # fmt: skip
        curve.append(report)
        best = best_epoch(curve)
        with write_failures_explained(plan.out):
            if best is report:
                heads = trainer.objective.networks.heads.state_dict()
                save_checkpoint(plan.out, trainer.backbone, _sidecar(plan, curve, device), heads)
            write_state(
                state_path(plan.out), TrainingState(identity=plan.identity, curve=curve, tensors=trainer.state())
            )
        say(f"{_line(report, config, kept=best is report)} | {progress.line()}")
        on_epoch(curve)
    if team.rank == 0:
        best = best_epoch(curve)
        with write_failures_explained(plan.out):
            rewrite_metadata(plan.out, {**_sidecar(plan, curve, device), "complete": True})
            state_path(plan.out).unlink(missing_ok=True)
        say(f"kept epoch {best.epoch}: {100 * best.validation_accuracy:.2f} on validation classes, {plan.out}")


def best_epoch(curve: Sequence[EpochReport]) -> EpochReport:
    """Return the epoch that is best on validation classes, the first of equals."""
    return max(curve, key=lambda report: report.validation_accuracy)


def make_folder(out: Path) -> None:
    """Make the folder of `out`, refusing another ending and a place that cannot be written.

    Raises:
        InputError: see above.
    """
    if out.suffix != SAFETENSORS_SUFFIX:
        raise InputError(f"--out is '{out}'; expected a file name that ends in {SAFETENSORS_SUFFIX}")
    with write_failures_explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)


def _trainer(plan: TrainingPlan, base: ImageTable, device: torch.device, team: Team) -> Trainer:
    config, benchmark = plan.config, plan.benchmark
    generator = torch_generator(config.seed, "backbone")
    backbone = create_backbone(plan.backbone, benchmark.channels, benchmark.image_size, generator)
    teacher = None
    if config.teacher:
        teacher = load_teacher(config.teacher, config.objective, plan.backbone, benchmark, base)
        teacher = teacher.to(device).to(memory_format=torch.channels_last)
    return Trainer(create_objective(config, backbone, teacher, benchmark, base), base, config, device, team)


def _resume(plan: TrainingPlan, trainer: Trainer, say: Callable[[str], None]) -> list[EpochReport]:
    state = read_state(state_path(plan.out))
    if state is None:
        return []
    refuse_other(state_path(plan.out), state.identity, plan.identity)
    if not plan.out.exists():
        raise InputError(
            f"{state_path(plan.out)} goes on after epoch {len(state.curve)}, but the best weights so far, {plan.out}, "
            "are gone; put them back, or remove the state to start from the beginning"
        )
    trainer.load_state(state.tensors)
    say(f"resuming after epoch {len(state.curve)} of {plan.config.epochs}")
    return list(state.curve)


def _line(report: EpochReport, config: PretrainConfig, kept: bool) -> str:
    parts = " ".join(f"{name} {value:.3f}" for name, value in report.parts.items()) if len(report.parts) > 1 else ""
    return (
        f"epoch {report.epoch}/{config.epochs} | loss {report.loss:.3f}{f' ({parts})' if parts else ''} | "
        f"base {100 * report.train_accuracy:.1f} | "
        f"validation {config.validation_n_way}-way {config.validation_n_shot}-shot "
        f"{100 * report.validation_accuracy:.2f} ± {100 * report.validation_half_width:.2f}"
        f"{' (best so far, saved)' if kept else ''} | {report.seconds:.0f} s"
    )


def _sidecar(plan: TrainingPlan, curve: Sequence[EpochReport], device: torch.device) -> dict[str, Any]:
    best, config = best_epoch(curve), plan.config
    return {
        "backbone": plan.backbone,
        "benchmark": plan.benchmark.name,
        "channels": plan.benchmark.channels,
        "image_size": plan.benchmark.image_size,
        "training": asdict(config),
        "identity": plan.identity,
        "command": plan.command,
        "kept_epoch": best.epoch,
        "validation": {
            "n_way": config.validation_n_way,
            "n_shot": config.validation_n_shot,
            "episodes": config.validation_episodes,
            "accuracy": best.validation_accuracy,
            "half_width": best.validation_half_width,
        },
        "curve": [asdict(report) for report in curve],
        "complete": False,
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "versions": {
            "rayfs": rayfs.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": sys.version.split()[0],
        },
        "date": datetime.now(UTC).date().isoformat(),
    }
