"""Which base images a method uses: a share of them, an imbalanced choice, those related to the episode; in what order.

N base images of classes that each own a range of rows, K classes of an episode, D features.
"""

import math

import numpy as np
import torch

from rayfs.datasets.image_table import ImageTable
from rayfs.engine.bank import BaseBank
from rayfs.methods.finetuning.settings import BaseFinetuneSettings
from rayfs.methods.frozen import classify
from rayfs.methods.method import TopBase
from rayfs.methods.needs import BaseImages
from rayfs.randomness import EpisodeRandomness, torch_generator

TOP = 8
"""Base images of each class that a result row keeps, for people to look at."""

CHUNK = 8192
"""Rows of features that are copied out of the memory map at a time."""


class RowSampler:
    """Rows in random order without replacement, pass after pass; incomplete batches are dropped."""

    def __init__(self, n_rows: int, batch: int, generator: torch.Generator) -> None:
        if batch > n_rows:
            raise ValueError(f"a batch of {batch} images was asked of {n_rows}")
        self._n_rows, self._batch, self._generator = n_rows, batch, generator
        self._order, self._next = torch.empty(0, dtype=torch.int64), 0

    def draw(self) -> torch.Tensor:
        """Return the rows (batch,) int64 of the next mini-batch."""
        if self._next + self._batch > len(self._order):
            self._order, self._next = torch.randperm(self._n_rows, generator=self._generator), 0
        rows = self._order[self._next : self._next + self._batch]
        self._next += self._batch
        return rows


def chosen_rows(table: ImageTable, settings: BaseFinetuneSettings, seed: int) -> np.ndarray:
    """Return the rows (n,) int64, in order, that `base_fraction` and `base_imbalance` leave; the same in every episode.

    Class sizes are shuffled over the classes, and images within a class drawn, from (seed, "base subset").
    """
    if settings.base_fraction == 1 and settings.base_imbalance == "none":
        return np.arange(len(table))
    generator = torch_generator(seed, "base subset")
    shares = class_shares(len(table.class_names), settings.base_imbalance, settings.imbalance_ratio)
    shares = shares[torch.randperm(len(shares), generator=generator).numpy()]
    n_images = table.class_counts()
    rows = []
    for start, n, n_kept in zip(
        table.offsets, n_images, kept_images(n_images, settings.base_fraction * shares), strict=False
    ):
        rows.append(start + torch.randperm(int(n), generator=generator)[:n_kept].sort().values.numpy())
    return np.concatenate(rows)


def class_shares(n_classes: int, form: str, ratio: float) -> np.ndarray:
    """Return the share of its images that each class keeps, largest first: from 1 down to 1/ratio.

    'exponential': share_c = ratio^(-c / (C - 1)); 'step': the second half of the classes has 1/ratio.
    """
    places = np.arange(n_classes) / max(1, n_classes - 1)
    if form == "step":
        places = (np.arange(n_classes) >= math.ceil(n_classes / 2)).astype(float)
    return np.ones(n_classes) if form == "none" else ratio**-places


def kept_images(n_images: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return how many of the images of classes a share is, int64, at least 1."""
    kept: np.ndarray = np.maximum(1, np.rint(n_images * share)).astype(np.int64)
    return kept


def n_chosen(class_counts: np.ndarray, images: BaseImages) -> int:
    """Return the fewest rows that `chosen_rows` can give classes of these sizes, before any is drawn.

    For classes of one size it gives them whatever is drawn.
    """
    if images.imbalance == "none":
        return int(kept_images(class_counts, np.full(len(class_counts), images.fraction)).sum())
    from scipy.optimize import linear_sum_assignment  # 0.3 s to import

    shares = images.fraction * class_shares(len(class_counts), images.imbalance, images.imbalance_ratio)
    kept_CC = kept_images(class_counts[:, None], shares)
    return int(kept_CC[linear_sum_assignment(kept_CC)].sum())


def related_rows(logits_NK: torch.Tensor, base_labels_N: np.ndarray, n_related: int) -> tuple[np.ndarray, np.ndarray]:
    """Return base rows (n,) int64 related to the episode, and the class of the episode (n,) that each is related to.

    Score of a base class for a class of the episode: the share of its images that the support's classifier gives to it.
    Pairs are taken by falling score until each class of the episode has `n_related` base classes, none of them twice;
    of a related base class those images are kept that are so classified.

    Source: Arman Afrasiyabi, Jean-François Lalonde, Christian Gagné, "Associative Alignment for Few-shot Image
    Classification", ECCV 2020, and its released code. Deviation: the classifier is the logistic regression of
    frozen features, not an arcMax classifier trained for 200 steps.
    """
    predicted_N = logits_NK.argmax(1).numpy(force=True)
    n_base, n_way = int(base_labels_N.max()) + 1, logits_NK.shape[1]
    counts = np.zeros((n_base, n_way))
    np.add.at(counts, (base_labels_N, predicted_N), 1)
    score = counts / counts.sum(1, keepdims=True)
    owner = np.full(n_base, -1)
    left = np.full(n_way, n_related)
    for place in np.argsort(-score, axis=None, kind="stable"):
        base_class, novel_class = divmod(int(place), n_way)
        if owner[base_class] < 0 and left[novel_class] > 0 and score[base_class, novel_class] > 0:
            owner[base_class] = novel_class
            left[novel_class] -= 1
    rows = np.flatnonzero(owner[base_labels_N] == predicted_N)
    return rows, predicted_N[rows]


def base_logits(bank: BaseBank, classifier: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the logits (N, K) that the support's classifier gives all base images, from their cached features."""
    weights, intercepts = classifier
    if bank.device_features is not None:
        return classify(bank.device_features, weights, intercepts)
    parts = np.array_split(np.arange(len(bank.table)), math.ceil(len(bank.table) / CHUNK))
    return torch.cat([classify(bank.take_features(rows).to(weights.device), weights, intercepts) for rows in parts])


def top_base(logits_NK: torch.Tensor, rows: np.ndarray) -> TopBase:
    """Return the base images of `rows` that the classifier is surest of, for each class of the episode."""
    probabilities_nK = logits_NK[torch.from_numpy(rows).to(logits_NK.device)].softmax(1)
    top = probabilities_nK.topk(min(TOP, len(rows)), dim=0)
    return TopBase(rows=torch.from_numpy(rows)[top.indices.T.cpu()], probabilities=top.values.T.float().cpu())


def episode_rows(
    bank: BaseBank, settings: BaseFinetuneSettings, randomness: EpisodeRandomness, logits_NK: torch.Tensor | None
) -> np.ndarray:
    """Return the base rows (n,) that an episode is finetuned on.

    At least one base class is related to every episode: the one with the largest score.

    Arguments:
        logits_NK: what the support's classifier says of all base images; only a related subset needs it.
    """
    rows = chosen_rows(bank.table, settings, randomness.seed)
    if settings.base_subset == "all":
        return rows
    assert logits_NK is not None, "a related subset needs the logits of all base images"
    among, _ = related_rows(logits_NK[torch.from_numpy(rows)], bank.table.labels[rows], settings.related_classes)
    related: np.ndarray = rows[among]
    return related
