"""Train by a plan, in every worker process: resumed where it stopped, the best epoch kept. Knows no Ray."""

import time
from collections.abc import Callable

import torch

from rayfs.backbones.registry import create_backbone
from rayfs.datasets.image_table import ImageTable
from rayfs.engine.progress import WorkProgress
from rayfs.randomness import torch_generator
from rayfs.training.curve import EpochReport, best_epoch, curve_line
from rayfs.training.initial import load_initial
from rayfs.training.keeper import Keeper
from rayfs.training.loop import Trainer
from rayfs.training.objective import Networks
from rayfs.training.parts import Given
from rayfs.training.plan import TrainingPlan, finished_before
from rayfs.training.teacher import load_staged_teacher
from rayfs.training.team import Team
from rayfs.training.validation import Validation

OnEpoch = Callable[[list[EpochReport]], None]
"""Is given the learning curve so far."""


def train(plan: TrainingPlan, device: torch.device, say: Callable[[str], None], on_epoch: OnEpoch) -> None:
    """Train, or go on training, and keep at `plan.out` the epoch that is best on validation classes.

    Ties go to the earlier epoch. All workers call this; the first one validates, writes and speaks. Does nothing where
    the training is done already.

    Arguments:
        say: prints a line.
        on_epoch: called after every epoch and at the end.

    Raises:
        InputError: a loss or the weights are not finite, or a file cannot be written.
    """
    if finished_before(plan) is not None:
        return
    team, (base, _), config = Team.of_this_process(), plan.tables(), plan.config
    trainer, validation = create_trainer(plan, base, device, team), plan.validation_measure()
    keeper = Keeper(plan, trainer, validation, device)
    if team.rank > 0:
        say = _say_nothing
    curve = keeper.resume(say)
    steps = trainer.steps_per_epoch
    progress = WorkProgress("training", "steps", config.epochs * steps, done=len(curve) * steps, say=say)
    for epoch in range(len(curve) + 1, config.epochs + 1):
        report = _epoch(trainer, validation if team.rank == 0 else None, epoch, device, progress.add)
        if report is None:
            continue
        curve.append(report)
        keeper.keep(curve)
        kept = best_epoch(curve) is report
        say(f"{curve_line(report, config.epochs, validation.measure, kept)} | {progress.line()}")
        on_epoch(curve)
    if team.rank == 0:
        keeper.finish(curve)
        on_epoch(curve)
        best = best_epoch(curve)
        say(f"kept epoch {best.epoch}: {100 * best.validation_accuracy:.2f} on {validation.among}, {plan.out}")


def _epoch(
    trainer: Trainer, validation: Validation | None, epoch: int, device: torch.device, on_step: Callable[[], None]
) -> EpochReport | None:
    """Train for one epoch and report on it; None where there is no validation, on all workers but the first."""
    started = time.monotonic()
    loss, train_accuracy, parts = trainer.train_epoch(epoch, on_step)
    trained_s = time.monotonic() - started
    if validation is None:
        return None
    scores = validation.scores(trainer.networks.eval(), device)
    return EpochReport(
        epoch=epoch, learning_rate=trainer.learning_rate(epoch), loss=loss, parts=parts,
        train_accuracy=train_accuracy, validation_accuracy=float(scores.mean()),
        validation_half_width=float(1.96 * scores.std(ddof=1) / len(scores) ** 0.5),
        seconds=time.monotonic() - started,
        images_per_second=trainer.steps_per_epoch * trainer.source.units_per_step / trained_s,
    )  # fmt: skip


def create_trainer(plan: TrainingPlan, base: ImageTable, device: torch.device, team: Team) -> Trainer:
    """Return what trains by `plan`: the parts of its objective, put together."""
    config, benchmark = plan.config, plan.benchmark
    generator = torch_generator(config.seed, "backbone")
    backbone = create_backbone(plan.backbone, benchmark.channels, benchmark.image_size, generator)
    if plan.init is not None:
        load_initial(plan.init, plan.backbone, backbone, plan.init_hash)
    given = Given(
        config=config, backbone=backbone, teacher=_teacher(plan, base, device), benchmark=benchmark, base=base,
        device=device, team=team,
    )  # fmt: skip
    return Trainer(config.definition.parts(given), config, device, team)


def _teacher(plan: TrainingPlan, base: ImageTable, device: torch.device) -> Networks | None:
    if plan.teacher is None:
        return None
    networks = load_staged_teacher(
        plan.teacher, plan.config.definition, plan.teacher_backbone, plan.benchmark, len(base.class_names),
        plan.teacher_hash,
    )  # fmt: skip
    return networks.to(device).to(memory_format=torch.channels_last)


def _say_nothing(line: str) -> None:
    """Be one of the workers that do not speak."""
