"""One result row for each (episode, method), and its Arrow form."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from rayfs.errors import InputError
from rayfs.redaction import without_secrets


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one method did on one episode.

    Raises:
        InputError: if the status, accuracy and lengths contradict one another.
    """

    episode: int
    """Index of the episode in its protocol's stream, from 0."""
    method: str
    status: str
    """"ok", or "failed" for an episode given up after its last attempt."""
    accuracy: float | None = None
    """Fraction of query images classified correctly, in [0, 1]; None if failed."""
    predictions: list[int] = field(default_factory=list)
    """Predicted episode label of every query image, in 0..n_way-1; empty if failed."""
    labels: list[int] = field(default_factory=list)
    """True episode label of every query image, in the order of `predictions`."""
    seconds: float = 0.0
    """Wall time of the last attempt, in seconds."""
    attempt: int = 1
    """Which attempt gave this row, from 1."""
    episode_hash: str
    """Hash of the episode's class and row ids: equal hashes are the same episode."""
    config_hash: str
    """Hash of the method's config."""
    steps: int = 0
    """Optimiser steps taken."""
    loss_base: float | None = None
    """Last loss on base images, None for methods without one."""
    loss_support: float | None = None
    """Last loss on support images, None for methods without one."""
    top_base_rows: list[int] = field(default_factory=list)
    """For methods that hallucinate labels, the rows of the base table that the label's classifier is surest of: equally
    many for each class of the episode, class by class, surest first. Else empty."""
    top_base_probabilities: list[float] = field(default_factory=list)
    """The probability of each of `top_base_rows` (softmax of the classifier's logits, no temperature)."""
    joint_novel_accuracy: float | None = None
    """Of the queries among the episode's and all base classes at once, a fraction; None where it was not asked for."""
    joint_base_accuracy: float | None = None
    """Of base images among the same classes."""
    device: str = ""
    node: str = ""
    worker: str = ""
    error: str = ""
    """Traceback if failed, else empty; secrets are taken out of it."""

    @property
    def key(self) -> tuple[int, str]:
        """What it is the result of: (episode, method)."""
        return self.episode, self.method

    @property
    def finished(self) -> bool:
        """Whether the method solved the episode."""
        return self.status == "ok"

    def __post_init__(self) -> None:
        if self.error:
            object.__setattr__(self, "error", without_secrets(self.error))
        name = f"row of episode {self.episode}, method {self.method!r}"
        if self.status not in ("ok", "failed"):
            raise InputError(f"{name}: status is {self.status!r}, expected 'ok' or 'failed'")
        if (self.status == "ok") != (self.accuracy is not None):
            raise InputError(f"{name}: status {self.status!r} with accuracy {self.accuracy}; only ok rows have one")
        for accuracy in (self.accuracy, self.joint_novel_accuracy, self.joint_base_accuracy):
            if accuracy is not None and not 0 <= accuracy <= 1:
                raise InputError(f"{name}: accuracy {accuracy} is not a fraction in [0, 1]")
        if len(self.predictions) != len(self.labels):
            raise InputError(f"{name}: {len(self.predictions)} predictions for {len(self.labels)} labels")
        if len(self.top_base_rows) != len(self.top_base_probabilities):
            n_rows, n_probabilities = len(self.top_base_rows), len(self.top_base_probabilities)
            raise InputError(f"{name}: {n_probabilities} probabilities for {n_rows} base rows")


SCHEMA = pa.schema(
    [
        pa.field("episode", pa.int64(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("accuracy", pa.float64()),
        pa.field("predictions", pa.list_(pa.int16()), nullable=False),
        pa.field("labels", pa.list_(pa.int16()), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("episode_hash", pa.string(), nullable=False),
        pa.field("config_hash", pa.string(), nullable=False),
        pa.field("steps", pa.int64(), nullable=False),
        pa.field("loss_base", pa.float64()),
        pa.field("loss_support", pa.float64()),
        pa.field("top_base_rows", pa.list_(pa.int32()), nullable=False),
        pa.field("top_base_probabilities", pa.list_(pa.float32()), nullable=False),
        pa.field("joint_novel_accuracy", pa.float64()),
        pa.field("joint_base_accuracy", pa.float64()),
        pa.field("device", pa.string(), nullable=False),
        pa.field("node", pa.string(), nullable=False),
        pa.field("worker", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
    ]
)
"""Columns of every part file, in the order of the fields of `Row`."""

SCIENTIFIC_COLUMNS = (
    "episode",
    "method",
    "status",
    "accuracy",
    "predictions",
    "labels",
    "episode_hash",
    "config_hash",
    "steps",
    "loss_base",
    "loss_support",
    "top_base_rows",
    "top_base_probabilities",
    "joint_novel_accuracy",
    "joint_base_accuracy",
)
"""What must be bit-identical between reruns on the same hardware, whatever the workers, order and attempts."""


def scientific_columns(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """Return the scientific columns sorted by (episode, method), floats as exact hexadecimal text.

    Two runs agree bit by bit exactly if the two lists are equal (NaN losses and signed zeros included).
    """
    ordered = sorted(rows, key=lambda row: (row.episode, row.method))
    return [tuple(_exact(getattr(row, name)) for name in SCIENTIFIC_COLUMNS) for row in ordered]


def _exact(value: Any) -> Any:
    if isinstance(value, list):
        return [_exact(item) for item in value]
    return value.hex() if isinstance(value, float) else value
