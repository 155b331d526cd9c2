"""Equations 1 to 9 of compositional knowledge transfer as loops over plain lists, in float64."""

import math
from collections.abc import Sequence

Vector = list[float]


def norm(vector: Vector) -> float:
    return math.sqrt(math.fsum(x * x for x in vector))


def unit(vector: Vector) -> Vector:
    length = norm(vector)
    return [x / length for x in vector]


def dot(a: Vector, b: Vector) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def total(vectors: Sequence[Vector]) -> Vector:
    return [math.fsum(column) for column in zip(*vectors, strict=True)]


def softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    exponentials = [math.exp(logit - top) for logit in logits]
    return [e / math.fsum(exponentials) for e in exponentials]


def prototype(features: list[Vector], labels: list[int], i: int) -> Vector:
    """Equation 3."""
    own = [unit(feature) for feature, label in zip(features, labels, strict=True) if label == i]
    return [x / len(own) for x in total(own)]


def allowed(counts: list[int], k: int, i: int, own_neighbour: bool) -> list[int]:
    """Equation 6."""
    return [j for j, n in enumerate(counts) if n > k and (own_neighbour or j != i)]


def attention(queries, keys, counts, k, tau, i, own_neighbour=True) -> dict[int, float]:
    """Equation 5."""
    classes = allowed(counts, k, i, own_neighbour)
    alphas = softmax([tau * dot(unit(queries[i]), unit(keys[j])) for j in classes])
    return dict(zip(classes, alphas, strict=True))


def transferred(queries, keys, counts, k, tau, i, own_neighbour=True) -> Vector:
    """Equation 4."""
    alphas = attention(queries, keys, counts, k, tau, i, own_neighbour)
    return total([[alpha * x for x in unit(keys[j])] for j, alpha in alphas.items()])


def composed(queries, keys, prototypes, weights, counts, k, tau, i, own_neighbour=True) -> Vector:
    """Equation 7."""
    w_kt = transferred(queries, keys, counts, k, tau, i, own_neighbour)
    return total([unit(w_kt), unit(prototypes[i]), unit(weights[i])])


def continual(queries, keys, prototypes, counts, k, tau, i) -> Vector:
    """Equation 9."""
    return total([unit(transferred(queries, keys, counts, k, tau, i)), unit(prototypes[i])])


def probabilities(feature: Vector, classifier: list[Vector], scale: float) -> list[float]:
    """Equations 1 and 2."""
    return softmax([scale * dot(unit(feature), unit(w)) for w in classifier])


def ensemble(feature: Vector, classifiers: list[list[Vector]], scale: float) -> list[float]:
    """Equation 8."""
    of_each = [probabilities(feature, classifier, scale) for classifier in classifiers]
    return [x / len(of_each) for x in total(of_each)]
