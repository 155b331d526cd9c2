"""Multinomial logistic regression on the support sets of many episodes at once, on a CPU or a GPU.

The same problem as `fit_logistic_regression`, which is its reference: scikit-learn, one episode at a time. Shapes: E
episodes, N support rows of each, D features, K classes, R = min(N, D) coordinates and one for the intercept.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-8
"""Largest entry of the gradient at which an episode is finished, times min(c, 1). The penalty makes the objective
strongly convex with modulus 1, so an error of the weights is no larger than the gradient."""

MAX_STEPS = 2000
"""An episode takes about 15 at c = 1, more the larger c is."""

RIDGE = 1e-11
"""Added to the diagonal of a Gram matrix, relative to its largest entry, for support rows that depend on each other."""

CHUNK_BYTES = 4 << 20
"""Most bytes of support features that are solved together on a CPU: about its cache. A GPU takes `GPU_CHUNKS` times."""

GPU_CHUNKS = 128


def fit_batched_logistic_regression(features_END: Tensor, labels_N: Tensor, c: float = 1.0) -> tuple[Tensor, Tensor]:
    """Solve `min 1/2 ||W||² + c Σ_i CE(W z_i + b, y_i)` for every episode; the intercept b is not penalised.

    Preconditioned conjugate gradients (Polak and Ribière) with the Newton step along each direction. The preconditioner
    is the Hessian at W = 0, where every class has probability 1/K: `I + c/K Z'Z` for each class, so that the first step
    is Newton's. Where there are fewer rows than features, the rows are first written in N coordinates (the Cholesky
    factor of their Gram matrix), and W comes from the optimum's equation `W = c Σ_i (onehot(y_i) - p_i) z_i'`.

    A finished episode stands still while the others of its chunk go on, so its result does not depend on them.

    Arguments:
        features_END: usually of unit length; computed with in float64.
        labels_N: int64 labels 0 .. K - 1 of the rows, the same for all episodes, every class present.

    Returns:
        W (E, K, D) and b (E, K), float64 on the device of the features; over the classes, both sum to zero.

    Raises:
        ValueError: a class has no row, or there is one class only.
        ArithmeticError: features are not finite, or an episode did not reach the optimum (a huge c).
    """
    classes, counts = labels_N.unique(return_counts=True)
    n_classes = int(labels_N.max()) + 1
    if len(counts) != n_classes or n_classes < 2 or int(classes[0]) != 0:
        raise ValueError(f"{len(counts)} classes have rows; expected every label from 0 to {max(1, n_classes - 1)}")
    if not torch.isfinite(features_END).all():
        raise ArithmeticError(
            "logistic regression: some features are not finite; the checkpoint is damaged or diverged"
        )
    onehot_NK = torch.nn.functional.one_hot(labels_N, n_classes).to(features_END.device, torch.float64)
    row_bytes = 8 * features_END[0].numel()
    limit = CHUNK_BYTES * (GPU_CHUNKS if features_END.is_cuda else 1)
    parts = [_fit(chunk.double(), onehot_NK, c) for chunk in features_END.split(max(1, limit // row_bytes))]
    return torch.cat([weights for weights, _ in parts]), torch.cat([intercepts for _, intercepts in parts])


def _fit(features_END: Tensor, onehot_NK: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """Solve one chunk of episodes."""
    n_rows, n_features = features_END.shape[1:]
    if n_rows >= n_features:
        weights_ERK, _ = _minimise(_with_ones(features_END), onehot_NK, c)
        return weights_ERK[:, :-1].mT, weights_ERK[:, -1]
    gram_ENN = features_END @ features_END.mT
    diagonal_EN = gram_ENN.diagonal(dim1=1, dim2=2)  # a view
    diagonal_EN += RIDGE * diagonal_EN.amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny / RIDGE)
    coordinates_ENR, _ = torch.linalg.cholesky_ex(gram_ENN)
    weights_ERK, residual_ENK = _minimise(_with_ones(coordinates_ENR), onehot_NK, c)
    return -c * residual_ENK.mT @ features_END, weights_ERK[:, -1]


def _with_ones(features_END: Tensor) -> Tensor:
    """Append the intercept's column."""
    return torch.cat([features_END, features_END.new_ones(*features_END.shape[:2], 1)], dim=2)


@dataclass(eq=False)
class _Point:
    """Where the search of each episode is. Weights and gradient are (E, R, K), the rest (E, N, K)."""

    weights: Tensor
    logits: Tensor
    probabilities: Tensor
    residual: Tensor
    """p - onehot(y)."""


def _minimise(rows_ENR: Tensor, onehot_NK: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """Return the weights (E, R, K), whose last row is the intercept, and the residuals p - onehot(y) (E, N, K)."""
    n_classes = onehot_NK.shape[1]
    penalty_R1 = rows_ENR.new_ones(rows_ENR.shape[2], 1)
    penalty_R1[-1] = 0
    hessian_ERR = (c / n_classes) * rows_ENR.mT @ rows_ENR + torch.diag(penalty_R1[:, 0])
    inverse_ERR = torch.cholesky_inverse(torch.linalg.cholesky_ex(hessian_ERR)[0])
    weights_ERK = rows_ENR.new_zeros(len(rows_ENR), rows_ENR.shape[2], n_classes)
    point = _point(weights_ERK, rows_ENR.new_zeros(*rows_ENR.shape[:2], n_classes), onehot_NK)
    gradient_ERK = c * rows_ENR.mT @ point.residual
    scaled_ERK = inverse_ERR @ gradient_ERK
    direction_ERK = -scaled_ERK
    for _ in range(MAX_STEPS):
        active_E11 = ~(gradient_ERK.abs().amax((1, 2), keepdim=True) <= TOLERANCE * min(c, 1.0))  # true for NaN
        if not active_E11.any():
            return point.weights, point.residual
        change_ENK = rows_ENR @ direction_ERK
        point = _step(point, direction_ERK, change_ENK, gradient_ERK, active_E11, penalty_R1, onehot_NK, c)
        former_ERK, former_E11 = gradient_ERK, _dot(gradient_ERK, scaled_ERK)
        gradient_ERK = penalty_R1 * point.weights + c * rows_ENR.mT @ point.residual
        scaled_ERK = inverse_ERR @ gradient_ERK
        beta_E11 = (_dot(gradient_ERK - former_ERK, scaled_ERK) / former_E11).clamp_min(0)
        direction_ERK = torch.where(active_E11, beta_E11 * direction_ERK - scaled_ERK, 0)
        ascends_E11 = _dot(direction_ERK, gradient_ERK) > 0
        direction_ERK = torch.where(ascends_E11, -scaled_ERK, direction_ERK)
    raise ArithmeticError(
        f"logistic regression: {int(active_E11.sum())} of {len(rows_ENR)} episodes are not at the optimum after "
        f"{MAX_STEPS} steps; lower c ({c:g})"
    )


def _step(
    point: _Point, direction_ERK: Tensor, change_ENK: Tensor, gradient_ERK: Tensor, active_E11: Tensor,
    penalty_R1: Tensor, onehot_NK: Tensor, c: float,
) -> _Point:  # fmt: skip
    """Go along the direction, which changes the logits by `change_ENK`: the Newton step, shorter where it goes too far.

    The slope along the line rises. A step is too far where the slope has become positive and more than half as steep as
    it was; the zero of the secant is then nearer.
    """
    p_ENK = point.probabilities
    mean_EN1 = (p_ENK * change_ENK).sum(2, keepdim=True)
    slope_E11 = _dot(gradient_ERK, direction_ERK)
    variance_E11 = _dot(p_ENK * change_ENK, change_ENK - mean_EN1)
    curvature_E11 = _dot(penalty_R1 * direction_ERK, direction_ERK) + c * variance_E11
    moves_E11 = active_E11 & (slope_E11 < 0)
    step_E11 = torch.where(moves_E11, -slope_E11 / curvature_E11, 0)
    while True:
        weights_ERK = torch.addcmul(point.weights, step_E11, direction_ERK)
        new = _point(weights_ERK, torch.addcmul(point.logits, step_E11, change_ENK), onehot_NK)
        slope_there_E11 = _dot(penalty_R1 * weights_ERK, direction_ERK) + c * _dot(new.residual, change_ENK)
        too_far_E11 = moves_E11 & (slope_there_E11 > -slope_E11 / 2)
        if not too_far_E11.any():
            return new
        nearer_E11 = step_E11 * slope_E11 / (slope_E11 - slope_there_E11)
        step_E11 = torch.where(too_far_E11, nearer_E11, step_E11)


def _point(weights_ERK: Tensor, logits_ENK: Tensor, onehot_NK: Tensor) -> _Point:
    p_ENK = logits_ENK.softmax(2)
    return _Point(weights=weights_ERK, logits=logits_ENK, probabilities=p_ENK, residual=p_ENK - onehot_NK)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Return the inner product of each episode, (E, 1, 1)."""
    return (first * second).sum((1, 2), keepdim=True)
