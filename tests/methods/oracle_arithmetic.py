"""Formulas once more, slowly: loops over images and classes, in float64. Of rayfs only views and their parameters."""

import math
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from rayfs.datasets.augmentation import ViewParameters, apply_views, draw_views
from rayfs.methods.method import Task, World


def repeated(task: Task, n_views: int) -> tuple[list[Tensor], list[int]]:
    """Return the support images and labels, the whole set `n_views` times over."""
    images = [image for _ in range(n_views) for image in task.support_images]
    return images, [int(label) for _ in range(n_views) for label in task.support_labels]


def naive_views(images: list[Tensor], world: World, generator: torch.Generator) -> Tensor:
    """Replay the drawn parameters, one image at a time."""
    drawn = draw_views(len(images), world.augmentation, generator)
    views = []
    for i, image in enumerate(images):
        one = ViewParameters(**{part.name: getattr(drawn, part.name)[i : i + 1] for part in fields(ViewParameters)})
        views.append(standardise(apply_views(image[None], world.augmentation, one)[0], world))
    return torch.stack(views)


def naive_plain(images: list[Tensor], world: World) -> Tensor:
    return torch.stack([standardise(image.permute(2, 0, 1).double() / 255, world) for image in images])


def standardise(x: Tensor, world: World) -> Tensor:
    planes = [(plane.double() - mean) / std for plane, mean, std in zip(x, world.mean, world.std, strict=True)]
    return torch.stack(planes).contiguous()


def unit_rows(features: Tensor) -> Tensor:
    return torch.stack([z / z.pow(2).sum().sqrt() for z in features])


def linear_logits(z: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    return torch.stack([torch.stack([(w * z_i).sum() + b for w, b in zip(weights, bias, strict=True)]) for z_i in z])


def arc_logits(features: Tensor, weights: Tensor, scale: float, margin: float, labels: list[int] | None) -> Tensor:
    """Return `s cos(θ_k)`, and `s cos(θ_k + m)` for the class of a row's label."""
    rows = []
    for i, z in enumerate(features):
        row = []
        for k, w in enumerate(weights):
            cosine = (z * w).sum() / z.pow(2).sum().sqrt() / w.pow(2).sum().sqrt()
            if labels is not None and labels[i] == k:  # cos(θ + m) = cos θ cos m - sin θ sin m
                cosine = cosine * math.cos(margin) - (1 - cosine**2).sqrt() * math.sin(margin)
            row.append(scale * cosine)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def softmax(row: Tensor) -> Tensor:
    powers = torch.stack([value.exp() for value in row])
    return powers / powers.sum()


def naive_distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        for p_k, q_k in zip(softmax(t / temperature), softmax(s / temperature), strict=True):
            total = total + p_k * (p_k / q_k).log()
    return temperature**2 / len(student) * total


def naive_cross_entropy(logits: Tensor, labels: list[int]) -> Tensor:
    return sum(-softmax(row)[y].log() for row, y in zip(logits, labels, strict=True)) / len(labels)


def naive_feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean of `||z' - z||²` of unit-length rows, by way of their angle: `2 - 2 cos`."""
    cosines = [(z * t).sum() / z.norm() / t.norm() for z, t in zip(student, teacher, strict=True)]
    return sum(2 - 2 * cosine for cosine in cosines) / len(cosines)


def naive_centroid_loss(base: Tensor, related_to: list[int], support: Tensor, labels: list[int]) -> Tensor:
    """Return the mean of `-log softmax_k(-||z_b - μ_k||²)` over base images whose class has a centroid."""
    centroids = {
        k: sum(z for z, y in zip(support, labels, strict=True) if y == k) / labels.count(k) for k in sorted(set(labels))
    }
    losses = []
    for z, related in zip(base, related_to, strict=True):
        if related not in centroids:
            continue
        nearness = {k: (-((z - centroid) ** 2).sum()).exp() for k, centroid in centroids.items()}
        losses.append(-(nearness[related] / sum(nearness.values())).log())
    return sum(losses) / len(losses)


def newton_logistic_regression(z: np.ndarray, labels: list[int], c: float) -> tuple[np.ndarray, np.ndarray]:
    """Minimise `1/2 ||W||² + c Σ CE` by Newton's method with the full Hessian; b is fixed by a zero sum."""
    n_classes, n_features = max(labels) + 1, z.shape[1]
    rows = np.hstack([z, np.ones((len(z), 1))])
    penalty = np.diag(np.tile([1.0] * n_features + [0.0], n_classes))
    centre = np.kron(np.ones((n_classes, n_classes)), np.diag([0.0] * n_features + [1.0]))
    theta = np.zeros(n_classes * (n_features + 1))
    for _ in range(50):
        gradient, hessian = penalty @ theta, penalty + centre
        for x, y in zip(rows, labels, strict=True):
            scores = theta.reshape(n_classes, -1) @ x
            p = np.exp(scores - scores.max())
            p /= p.sum()
            gradient = gradient + c * np.kron(p - np.eye(n_classes)[y], x)
            hessian = hessian + c * np.kron(np.diag(p) - np.outer(p, p), np.outer(x, x))
        theta = theta - np.linalg.solve(hessian, gradient + centre @ theta)
        if np.abs(gradient).max() < 1e-11:
            break
    solved = theta.reshape(n_classes, -1)
    return solved[:, :-1], solved[:, -1]
