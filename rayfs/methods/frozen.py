"""What methods make of frozen features of the support set: features of views, and a logistic regression of them.

S support images, A views of each, D features, K classes.
"""

import torch

from rayfs.backbones.heads import l2_normalize
from rayfs.engine.features import embed
from rayfs.engine.logistic_regression import fit_logistic_regression
from rayfs.engine.stages import stage
from rayfs.methods.method import Task, World
from rayfs.randomness import EpisodeRandomness


def support_classifier(
    task: Task, world: World, randomness: EpisodeRandomness, n_views: int, c: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit the logistic regression of an episode on one fixed draw of `n_views` views of each support image.

    Label Hallucination eq. 2. Uses the randomness "support views", so that every method gets the same classifier.

    Returns:
        W (K, D) and b (K,), float32 on the world's device.
    """
    with stage("support"):
        features, labels = support_features(task, world, randomness, n_views)
        fitted = fit_logistic_regression(l2_normalize(features).cpu().numpy(), labels.numpy(), c)
        weights, intercepts = (torch.from_numpy(array).to(world.device) for array in fitted)
    return weights, intercepts


def support_features(
    task: Task, world: World, randomness: EpisodeRandomness, n_views: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the frozen features (A S, D) of one fixed draw of `n_views` views of each support image, and labels."""
    images, labels = tile_support(task, n_views)
    generator = randomness.generator("support views", world.device)
    features = embed(world.backbone, images, lambda part: world.views(part, generator), world.device, batch=len(images))
    return features, labels


def tile_support(task: Task, n_views: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Repeat the support set: copy a of image i is at a S + i. Returns images (A S, H, W, C) and labels (A S,)."""
    return task.support_images.repeat(n_views, 1, 1, 1), task.support_labels.repeat(n_views)


def classify(features: torch.Tensor, weights: torch.Tensor, intercepts: torch.Tensor) -> torch.Tensor:
    """Return the logits (n, K) of features (n, D), which are scaled to unit length first."""
    return torch.addmm(intercepts, l2_normalize(features), weights.T)
