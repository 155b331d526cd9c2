"""The terms of the objectives once more, slowly: loops over images and classes, from the equations, in float64."""

import math

from torch import Tensor

Rows = list[list[float]]


def rows(tensor: Tensor) -> Rows:
    return tensor.detach().double().tolist()


def softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def cross_entropy(logits: Tensor, labels: list[int]) -> float:
    return sum(-math.log(softmax(row)[label]) for row, label in zip(rows(logits), labels, strict=True)) / len(labels)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> float:
    total = 0.0
    for s, t in zip(rows(student), rows(teacher), strict=True):
        for p, q in zip(softmax(t, temperature), softmax(s, temperature), strict=True):
            total += p * math.log(p / q)
    return temperature**2 * total / len(student)


def binary_cross_entropy(logits: Tensor, classes: list[int]) -> float:
    """Return the mean over rows and columns of -log of the probability of the right yes or no."""
    terms = []
    for row, wanted in zip(rows(logits), classes, strict=True):
        for column, value in enumerate(row):
            yes = 1 / (1 + math.exp(-value))
            terms.append(-math.log(yes if column == wanted else 1 - yes))
    return sum(terms) / len(terms)


def mean_distance(a: Tensor, b: Tensor) -> float:
    return sum(math.dist(x, y) for x, y in zip(rows(a), rows(b), strict=True)) / len(a)


def mean_squared_error(a: Tensor, b: Tensor) -> float:
    squares = [(u - v) ** 2 for x, y in zip(rows(a), rows(b), strict=True) for u, v in zip(x, y, strict=True)]
    return sum(squares) / len(squares)


def cosine(a: list[float], b: list[float], epsilon: float) -> float:
    product = sum(u * v for u, v in zip(a, b, strict=True))
    return product / (math.hypot(*a) + epsilon) / (math.hypot(*b) + epsilon)


def contrast(anchor: list[float], positive: list[float], negatives: Rows, temperature: float) -> float:
    hit = math.exp(cosine(anchor, positive, 1e-6) / temperature)
    misses = sum(math.exp(cosine(positive, negative, 1e-6) / temperature) for negative in negatives)
    return -math.log(hit / (hit + misses + 1e-6))


def invariance(z: Tensor, slots: Tensor, negatives: Tensor, temperature: float) -> float:
    """Return the mean over images of the mean over transforms; `z` is transform by transform."""
    embeddings, memory, n = rows(z), rows(slots), len(slots)
    total = 0.0
    for i in range(n):
        views = [embeddings[t * n + i] for t in range(len(z) // n)]
        terms = [contrast(memory[i], views[0], rows(negatives), temperature)]
        terms += [contrast(views[0], view, rows(negatives), temperature) for view in views[1:]]
        total += sum(terms) / len(views)
    return total / n
