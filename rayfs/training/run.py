"""Train by a plan, in every worker process: resumed where it stopped, the best epoch kept. Knows no Ray.

The state beside the checkpoint (`training_state.py`) is written first and whole; the checkpoint and its sidecar are
written from it, so that whatever dies between any two lines here, the same command goes on.
"""

import copy
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from rayfs.backbones.checkpoint_files import write_failures_explained
from rayfs.backbones.checkpoints import save_checkpoint
from rayfs.backbones.registry import create_backbone
from rayfs.datasets.image_table import ImageTable
from rayfs.engine.progress import WorkProgress
from rayfs.provenance import git_commit, versions
from rayfs.randomness import torch_generator
from rayfs.training.initial import load_initial
from rayfs.training.objective import Networks
from rayfs.training.plan import TrainingPlan, finished_before
from rayfs.training.registry import create_objective
from rayfs.training.teacher import load_staged_teacher
from rayfs.training.train import EpochReport, Team, Trainer, learning_rate, validate, validate_classifier
from rayfs.training.training_state import TrainingState, read_state, refuse_other, state_path, write_state


def train(
    plan: TrainingPlan,
    device: torch.device,
    say: Callable[[str], None],
    on_epoch: Callable[[list[EpochReport]], None],
) -> None:
    """Train, or go on training, and keep at `plan.out` the epoch that is best on validation classes.

    Ties go to the earlier epoch. All workers call this; the first one validates, writes and speaks. Does nothing where
    the training is done already.

    Arguments:
        say: prints a line.
        on_epoch: is given the learning curve so far, after every epoch and at the end.

    Raises:
        InputError: a loss or the weights are not finite, or a file cannot be written.
    """
    if finished_before(plan) is not None:
        return
    team, (base, validation), config = Team.of_this_process(), plan.tables(), plan.config
    trainer = _trainer(plan, base, device, team)
    keeper = Keeper(plan, trainer, device)
    if team.rank > 0:
        say = _say_nothing
    curve = keeper.resume(say)
    assert config.epochs is not None, "it is resolved"
    steps = trainer.steps_per_epoch
    progress = WorkProgress("training", "steps", config.epochs * steps, done=len(curve) * steps, say=say)
    for epoch in range(len(curve) + 1, config.epochs + 1):
        started = time.monotonic()
        loss, train_accuracy, parts = trainer.train_epoch(epoch, progress.add)
        trained_s = time.monotonic() - started
        if team.rank > 0:
            continue
        networks = trainer.objective.networks.eval()
        if plan.benchmark.shared_classes:
            accuracies = validate_classifier(networks, base.class_names, plan.benchmark, validation, config, device)
        else:
            accuracies = validate(networks.backbone, plan.benchmark, validation, config, device)
        report = EpochReport(
            epoch=epoch, learning_rate=learning_rate(config, epoch), loss=loss, parts=parts,
            train_accuracy=train_accuracy, validation_accuracy=float(accuracies.mean()),
            validation_half_width=float(1.96 * accuracies.std(ddof=1) / len(accuracies) ** 0.5),
            seconds=time.monotonic() - started, images_per_second=steps * trainer.batch / trained_s,
        )  # fmt: skip
        curve.append(report)
        keeper.keep(curve)
        say(f"{_line(report, plan, kept=best_epoch(curve) is report)} | {progress.line()}")
        on_epoch(curve)
    if team.rank == 0:
        keeper.finish(curve)
        on_epoch(curve)
        best = best_epoch(curve)
        what = "images" if plan.benchmark.shared_classes else "classes"
        say(f"kept epoch {best.epoch}: {100 * best.validation_accuracy:.2f} on validation {what}, {plan.out}")


class Keeper:
    """Writes what a training has to keep: its state after every epoch, and the best epoch's checkpoint."""

    def __init__(self, plan: TrainingPlan, trainer: Trainer, device: torch.device) -> None:
        self._plan, self._trainer, self._device = plan, trainer, device
        self._best: Networks = copy.deepcopy(trainer.objective.networks).cpu()
        self._state_path = state_path(plan.out)

    def resume(self, say: Callable[[str], None]) -> list[EpochReport]:
        """Go back to where the training stopped, if it had begun; returns the learning curve up to there.

        Raises:
            InputError: the state is damaged or belongs to another training.
        """
        state = read_state(self._state_path)
        if state is None:
            return []
        refuse_other(self._state_path, state.identity, self._plan.identity)
        self._trainer.load_state(state.tensors)
        self._best.load_state_dict(state.best)
        say(f"resuming after epoch {len(state.curve)} of {self._plan.config.epochs}")
        return list(state.curve)

    def keep(self, curve: list[EpochReport]) -> None:
        """Write the state after the last epoch of `curve`, then the checkpoint if that epoch is the best."""
        improved = best_epoch(curve) is curve[-1]
        if improved:
            self._best.load_state_dict(self._trainer.objective.networks.state_dict())
        state = TrainingState(
            identity=self._plan.identity, curve=curve, tensors=self._trainer.state(), best=self._best.state_dict()
        )
        with write_failures_explained(self._state_path):
            write_state(self._state_path, state)
        if improved:
            self._write_checkpoint(curve, complete=False)

    def finish(self, curve: list[EpochReport]) -> None:
        """Write the checkpoint with its final sidecar, then remove the state."""
        self._write_checkpoint(curve, complete=True)
        self._state_path.unlink(missing_ok=True)

    def _write_checkpoint(self, curve: list[EpochReport], complete: bool) -> None:
        metadata = sidecar(self._plan, curve, self._device, complete)
        save_checkpoint(self._plan.out, self._best.backbone, metadata, self._best.heads.state_dict())


def best_epoch(curve: Sequence[EpochReport]) -> EpochReport:
    """Return the epoch that is best on validation classes, the first of equals."""
    return max(curve, key=lambda report: report.validation_accuracy)


def sidecar(plan: TrainingPlan, curve: Sequence[EpochReport], device: torch.device, complete: bool) -> dict[str, Any]:
    """Return what goes beside the weights: how they were made, how good they are, and what they fit."""
    best, config = best_epoch(curve), plan.config
    return {
        "backbone": plan.backbone,
        "benchmark": plan.benchmark.name,
        "channels": plan.benchmark.channels,
        "image_size": plan.benchmark.image_size,
        "classes": list(plan.tables()[0].class_names),
        **({"left_out": list(plan.left_out)} if plan.left_out else {}),
        "training": asdict(config),
        "identity": plan.identity,
        "command": plan.command,
        "kept_epoch": best.epoch,
        "validation": {
            **_validation_protocol(plan),
            "accuracy": best.validation_accuracy,
            "half_width": best.validation_half_width,
        },
        "curve": [asdict(report) for report in curve],
        "complete": complete,
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "versions": versions(),
        "git_commit": git_commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _validation_protocol(plan: TrainingPlan) -> dict[str, Any]:
    if plan.benchmark.shared_classes:
        return {"measure": "top-1 accuracy of the classifier, mean over the classes that have validation images"}
    config = plan.config
    return {
        "n_way": config.validation_n_way,
        "n_shot": config.validation_n_shot,
        "episodes": config.validation_episodes,
    }


def _say_nothing(line: str) -> None:
    """Be one of the workers that do not speak."""


def _trainer(plan: TrainingPlan, base: ImageTable, device: torch.device, team: Team) -> Trainer:
    config, benchmark = plan.config, plan.benchmark
    generator = torch_generator(config.seed, "backbone")
    backbone = create_backbone(plan.backbone, benchmark.channels, benchmark.image_size, generator)
    if plan.init is not None:
        load_initial(plan.init, plan.backbone, backbone, plan.init_hash)
    teacher = None
    if plan.teacher is not None:
        teacher = load_staged_teacher(plan.teacher, config.objective, plan.backbone, benchmark, base, plan.teacher_hash)
        teacher = teacher.to(device).to(memory_format=torch.channels_last)
    return Trainer(create_objective(config, backbone, teacher, benchmark, base), base, config, device, team)


def _line(report: EpochReport, plan: TrainingPlan, kept: bool) -> str:
    config = plan.config
    measure = f"{config.validation_n_way}-way {config.validation_n_shot}-shot"
    if plan.benchmark.shared_classes:
        measure = "mean over classes"
    parts = " ".join(f"{name} {value:.3f}" for name, value in report.parts.items()) if len(report.parts) > 1 else ""
    return (
        f"epoch {report.epoch}/{config.epochs} | loss {report.loss:.3f}{f' ({parts})' if parts else ''} | "
        f"base {100 * report.train_accuracy:.1f} | "
        f"validation {measure} {100 * report.validation_accuracy:.2f} ± {100 * report.validation_half_width:.2f}"
        f"{' (best so far, saved)' if kept else ''} | {report.seconds:.0f} s"
    )
