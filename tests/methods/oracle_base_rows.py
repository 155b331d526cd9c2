"""Which base images a method uses, once more: by hand-like loops over pairs of classes."""

import math
from collections.abc import Iterator

import torch

from rayfs.datasets.image_table import ImageTable
from rayfs.methods.finetuning.settings import BaseFinetuneSettings
from rayfs.randomness import torch_generator


def naive_related(predicted: list[int], base_labels: list[int], n_way: int, n_related: int) -> dict[int, int]:
    """Return row -> class of the episode, for every base row that is kept.

    Again and again the best pair of all that may still be taken, the first one among equals.
    """
    base_classes = sorted(set(base_labels))
    owner: dict[int, int] = {}
    while True:
        best, best_score = None, 0.0
        for base_class in base_classes:
            for novel_class in range(n_way):
                if base_class in owner or list(owner.values()).count(novel_class) == n_related:
                    continue
                of_class = [p for p, label in zip(predicted, base_labels, strict=True) if label == base_class]
                score = of_class.count(novel_class) / len(of_class)
                if score > best_score:
                    best, best_score = (base_class, novel_class), score
        if best is None:
            break
        owner[best[0]] = best[1]
    pairs = enumerate(zip(base_labels, predicted, strict=True))
    return {row: guess for row, (base_class, guess) in pairs if owner.get(base_class) == guess}


def naive_chosen(table: ImageTable, config: BaseFinetuneSettings, seed: int) -> list[int]:
    """Return the rows that a share of every class leaves, sizes falling over classes in a drawn order."""
    n_classes = len(table.class_names)
    if config.base_fraction == 1 and config.base_imbalance == "none":
        return list(range(len(table)))
    generator = torch_generator(seed, "base subset")
    places = torch.randperm(n_classes, generator=generator).tolist()
    rows = []
    for c, place in enumerate(places):
        share = config.base_fraction
        if config.base_imbalance == "exponential":
            share /= math.exp(math.log(config.imbalance_ratio) * place / (n_classes - 1))
        if config.base_imbalance == "step" and place >= n_classes / 2:
            share /= config.imbalance_ratio
        of_class = list(range(int(table.offsets[c]), int(table.offsets[c + 1])))
        order = torch.randperm(len(of_class), generator=generator).tolist()
        rows += sorted(of_class[i] for i in order[: max(1, round(len(of_class) * share))])
    return rows


def naive_passes(items: list, batch: int, generator: torch.Generator) -> Iterator[list]:
    """Yield batches of `items`: a new shuffle each pass, nothing twice in a pass, no short batch."""
    while True:
        left = torch.randperm(len(items), generator=generator).tolist()
        while len(left) >= batch:
            yield [items[left.pop(0)] for _ in range(batch)]
