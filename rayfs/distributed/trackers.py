"""Experiment trackers through Ray's own callbacks, where they are installed."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from rayfs.errors import InputError

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""Tracker -> package that Ray's callback imports."""

PROJECT = "rayfs"


def refuse_absent_trackers(trackers: Sequence[str]) -> None:
    """Refuse trackers whose package is not installed.

    Raises:
        InputError: names the package.
    """
    for tracker in trackers:
        if find_spec(PACKAGES[tracker]) is None:
            raise InputError(
                f"--log-to {tracker} needs the package {PACKAGES[tracker]}, which is not installed; "
                f"pip install {PACKAGES[tracker]}, or drop it from --log-to"
            )


def tracker_callbacks(trackers: Sequence[str]) -> list[Any]:
    """Return Ray's callbacks for `trackers`; MLflow and W&B take their addresses and keys from their environments."""
    callbacks: list[Any] = []
    for tracker in trackers:
        if tracker == "tensorboard":
            from ray.tune.logger import TBXLoggerCallback

            callbacks.append(TBXLoggerCallback())
        elif tracker == "mlflow":
            from ray.air.integrations.mlflow import MLflowLoggerCallback

            callbacks.append(MLflowLoggerCallback(experiment_name=PROJECT))
        else:
            from ray.air.integrations.wandb import WandbLoggerCallback

            callbacks.append(WandbLoggerCallback(project=PROJECT, excludes=["rows"]))
    return callbacks
