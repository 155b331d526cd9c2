"""What a training has to keep: its state after every epoch, and the best epoch's checkpoint with its sidecar.

The state beside the checkpoint (`training_state.py`) is written first and whole; the checkpoint and its sidecar are
written from it, so that whatever dies between any two lines here, the same command goes on.
"""

import copy
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from rayfs.backbones.checkpoint_files import write_failures_explained
from rayfs.backbones.checkpoints import save_checkpoint
from rayfs.provenance import git_commit, versions
from rayfs.training.curve import EpochReport, best_epoch
from rayfs.training.loop import Trainer
from rayfs.training.objective import Networks
from rayfs.training.plan import TrainingPlan
from rayfs.training.training_state import TrainingState, read_state, refuse_other, state_path, write_state
from rayfs.training.validation import Validation


class Keeper:
    """Writes the state of a training, and the best epoch's checkpoint."""

    def __init__(self, plan: TrainingPlan, trainer: Trainer, validation: Validation, device: torch.device) -> None:
        self._plan, self._trainer, self._validation, self._device = plan, trainer, validation, device
        self._best: Networks = copy.deepcopy(trainer.networks).cpu()
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
            self._best.load_state_dict(self._trainer.networks.state_dict())
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
        metadata = sidecar(self._plan, self._validation, curve, self._device, complete)
        save_checkpoint(self._plan.out, self._best.backbone, metadata, self._best.heads.state_dict())


def sidecar(
    plan: TrainingPlan, validation: Validation, curve: Sequence[EpochReport], device: torch.device, complete: bool
) -> dict[str, Any]:
    """Return what goes beside the weights: how they were made, how good they are, and what they fit."""
    best = best_epoch(curve)
    return {
        "backbone": plan.backbone,
        "benchmark": plan.benchmark.name,
        "channels": plan.benchmark.channels,
        "image_size": plan.benchmark.image_size,
        "classes": list(plan.tables()[0].class_names),
        **({"left_out": list(plan.left_out)} if plan.left_out else {}),
        "training": plan.config.as_dict(),
        "identity": plan.identity,
        "command": plan.command,
        "kept_epoch": best.epoch,
        "validation": {
            **validation.record(),
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
