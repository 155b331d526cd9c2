"""What chooses the epoch to keep. An objective says which (`ObjectiveDefinition.validation`).

Few-shot accuracy of a frozen embedding on validation classes; on long-tailed benchmarks, whose splits share their
classes, top-1 accuracy of the classifier on validation images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rayfs.datasets.augmentation import normalize, plain_view
from rayfs.datasets.image_table import ImageTable
from rayfs.datasets.registry import Benchmark
from rayfs.engine.bank import embed_table
from rayfs.errors import InputError
from rayfs.training.accuracies import class_accuracy, few_shot_accuracy, validation_protocol
from rayfs.training.config import TrainingConfig
from rayfs.training.objective import Networks


class Validation(Protocol):
    """Scores of networks on images that are not trained on; their mean chooses the epoch."""

    @property
    def measure(self) -> str:
        """What an accuracy is of, in a line of an epoch: "5-way 1-shot"."""
        ...

    @property
    def images(self) -> str:
        """What is validated on, in the description: "17 validation classes"."""
        ...

    @property
    def among(self) -> str:
        """What the kept epoch is best on: "validation classes"."""
        ...

    @property
    def settings(self) -> frozenset[str]:
        """The settings that only some validations have, of those that this one reads."""
        ...

    def record(self) -> dict[str, Any]:
        """Return how it is measured, for the checkpoint's sidecar; valid JSON."""
        ...

    def scores(self, networks: Networks, device: torch.device) -> np.ndarray:
        """Return fractions, 2 or more, of `networks` in eval mode.

        Raises:
            InputError: what the networks give is not finite.
        """
        ...


CreateValidation = Callable[[TrainingConfig, Benchmark, Sequence[str], ImageTable], Validation]
"""(settings, benchmark, names of the base classes, validation table) -> validation; InputError where it cannot be."""

EPISODE_SETTINGS = frozenset({"validation_n_way", "validation_n_shot", "validation_episodes"})
"""Settings that only a validation by episodes reads."""


def by_benchmark(
    config: TrainingConfig, benchmark: Benchmark, class_names: Sequence[str], table: ImageTable
) -> Validation:
    """Return few-shot accuracy; where the splits share their classes, that of the head "classifier"."""
    if benchmark.shared_classes:
        return ClassifierAccuracy(config=config, benchmark=benchmark, class_names=tuple(class_names), table=table)
    return FewShotAccuracy(config=config, benchmark=benchmark, table=table)


@dataclass(frozen=True, kw_only=True)
class FewShotAccuracy:
    """Accuracy of the frozen backbone on episodes of validation classes, with logistic regression.

    Raises:
        InputError: the table has too few classes, or a class too few images.
    """

    config: TrainingConfig
    benchmark: Benchmark
    table: ImageTable

    settings = EPISODE_SETTINGS
    among = "validation classes"

    def __post_init__(self) -> None:
        validation_protocol(self.config, self.table)

    @property
    def measure(self) -> str:
        """Ways and shots."""
        return f"{self.config.validation_n_way}-way {self.config.validation_n_shot}-shot"

    @property
    def images(self) -> str:
        """The number of classes."""
        return f"{len(self.table.class_names)} validation classes"

    def record(self) -> dict[str, Any]:
        """Return ways, shots and episodes."""
        config = self.config
        return {
            "n_way": config.validation_n_way,
            "n_shot": config.validation_n_shot,
            "episodes": config.validation_episodes,
        }

    def scores(self, networks: Networks, device: torch.device) -> np.ndarray:
        """Return the accuracy (n_episodes,) on each episode."""
        features_ND = embedded(self.table, networks.backbone, self.benchmark, self.config, device, "features")
        protocol = validation_protocol(self.config, self.table)
        return few_shot_accuracy(features_ND, self.table, protocol, self.config.validation_episodes)


@dataclass(frozen=True, kw_only=True)
class ClassifierAccuracy:
    """Accuracy of the trained head "classifier" on the validation images of each class."""

    config: TrainingConfig
    benchmark: Benchmark
    class_names: tuple[str, ...]
    """Of the classifier's outputs; those of `table` are among them."""
    table: ImageTable

    settings = frozenset[str]()
    measure = "mean over classes"
    among = "validation images"

    @property
    def images(self) -> str:
        """The numbers of images and classes."""
        return f"{len(self.table):,} validation images of {len(self.table.class_names)} of them"

    def record(self) -> dict[str, Any]:
        """Return the measure in words."""
        return {"measure": "top-1 accuracy of the classifier, mean over the classes that have validation images"}

    def scores(self, networks: Networks, device: torch.device) -> np.ndarray:
        """Return the accuracy (n_classes of `table`,) on each class."""
        logits_NC = embedded(self.table, ClassifierLogits(networks), self.benchmark, self.config, device, "logits")
        return class_accuracy(logits_NC[:, : len(self.class_names)], self.class_names, self.table)


class ClassifierLogits(nn.Module):
    """The backbone with its classifier: images -> logits."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self._networks = networks
        self.train(networks.training)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, n_outputs)."""
        logits: Tensor = self._networks(images)["classifier"]
        return logits


def embedded(
    table: ImageTable, module: nn.Module, benchmark: Benchmark, config: TrainingConfig, device: torch.device, what: str
) -> np.ndarray:
    """Return what `module` gives of the plain images of `table`, (N, D).

    Arguments:
        what: "features" or "logits", for the message.

    Raises:
        InputError: a value is not finite.
    """
    values = embed_table(
        table, module, lambda images: normalize(plain_view(images), benchmark.mean, benchmark.std), device
    )
    n_bad = int((~np.isfinite(values).all(axis=1)).sum())
    if n_bad:
        raise InputError(
            f"the {what} of {n_bad} of {len(values)} validation images are not finite; lower --lr ({config.lr})"
        )
    return values
