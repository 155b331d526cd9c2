"""Accuracies that choose an epoch: of a frozen embedding in few-shot episodes, of a classifier class by class."""

from collections.abc import Sequence

import numpy as np

from rayfs.datasets.episodes import Protocol, check_protocol, draw_episode
from rayfs.datasets.image_table import ImageTable
from rayfs.engine.logistic_regression import fit_logistic_regression
from rayfs.errors import InputError
from rayfs.training.config import PretrainConfig, TrainingConfig

VALIDATION_QUERIES = 15
"""Query images a class, or as many as the smallest class has left."""


def validation_protocol(config: PretrainConfig | TrainingConfig, table: ImageTable) -> Protocol:
    """Return how the validation episodes of `config` are drawn from `table`.

    Raises:
        InputError: the table has too few classes, or a class too few images.
    """
    n_query = min(VALIDATION_QUERIES, int(table.class_counts().min()) - config.validation_n_shot)
    protocol = Protocol(
        n_way=config.validation_n_way, n_shot=config.validation_n_shot, n_query=max(1, n_query), split="validation",
        seed=config.seed,
    )  # fmt: skip
    try:
        check_protocol(protocol, table.class_names, table.class_counts())
    except InputError as error:
        raise InputError(f"--validation-n-way, --validation-n-shot: {error}") from None
    return protocol


def few_shot_accuracy(features: np.ndarray, table: ImageTable, protocol: Protocol, n_episodes: int) -> np.ndarray:
    """Return the accuracy of logistic regression on each of the first `n_episodes` episodes of `protocol`.

    Arguments:
        features: (N, D) of all images of `table`; scaled to unit length here.

    Returns:
        (n_episodes,) fractions.
    """
    check_protocol(protocol, table.class_names, table.class_counts())
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    accuracies = np.empty(n_episodes)
    for index in range(n_episodes):
        episode = draw_episode(table.offsets, table.fingerprint, protocol, index)
        labels = np.arange(protocol.n_way)
        weights, intercepts = fit_logistic_regression(
            unit[episode.support_ids.ravel()], np.repeat(labels, protocol.n_shot)
        )
        predicted = (unit[episode.query_ids.ravel()] @ weights.T + intercepts).argmax(axis=1)
        accuracies[index] = (predicted == np.repeat(labels, protocol.n_query)).mean()
    return accuracies


def class_accuracy(logits: np.ndarray, class_names: Sequence[str], table: ImageTable) -> np.ndarray:
    """Return the top-1 accuracy, a fraction, of each class of `table` (n_classes of `table`,).

    Arguments:
        logits: (N, C) of all images of `table`, over the classes `class_names`.
    """
    position = {name: index for index, name in enumerate(class_names)}
    expected = np.array([position[name] for name in table.class_names])[table.labels]
    right = (logits.argmax(axis=1) == expected).astype(np.float64)
    accuracies: np.ndarray = np.add.reduceat(right, table.offsets[:-1]) / table.class_counts()
    return accuracies
