"""Multinomial logistic regression on a support set. N images, D features, K classes."""

import warnings
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

TOLERANCE = 1e-6
"""Of the gradient. Deviation: the released codes use scikit-learn's 1e-4, which leaves errors of 1e-2 in the logits."""


def fit_logistic_regression(features: np.ndarray, labels: np.ndarray, c: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Solve `min 1/2 ||W||² + c Σ_i CE(W z_i + b, y_i)`; the intercept b is not penalised (Label Hallucination eq. 2).

    Runs on one thread: the matrices are so small that a second one mostly waits (two busy cores, 10 classes of 50
    images: 0.41 s instead of 0.006 s), and the last bits must not depend on a machine's number of cores.

    Arguments:
        features: (N, D) z_i, usually of unit length.
        labels: (N,) integers 0 .. K - 1, every class present.

    Returns:
        W (K, D) and b (K,), float32; the rows of W sum to zero, as does b.

    Raises:
        ValueError: a class has no image, or there is one class only.
        ConvergenceWarning: the solver stopped before the optimum.
    """
    from sklearn.exceptions import ConvergenceWarning  # almost a second to import, and most processes fit nothing
    from sklearn.linear_model import LogisticRegression

    n_classes = int(labels.max()) + 1
    n_present = len(np.unique(labels))
    if n_present != n_classes or n_classes < 2:
        raise ValueError(f"{n_present} classes have images; expected every label from 0 to {max(1, n_classes - 1)}")
    # With two classes scikit-learn fits one vector w = w_1 - w_0. The multinomial optimum has w_1 = -w_0 = w / 2 and
    # hence the penalty 1/2 (||w/2||² + ||w/2||²) = 1/4 ||w||²: the binary problem with twice the weight on the loss.
    scale = 2.0 if n_classes == 2 else 1.0
    solver = LogisticRegression(C=scale * c, solver="lbfgs", max_iter=1000, tol=TOLERANCE)
    with warnings.catch_warnings(), _linear_algebra().limit(limits=1, user_api="blas"):
        warnings.simplefilter("error", ConvergenceWarning)
        solver.fit(features.astype(np.float64), labels)
    weights, intercepts = solver.coef_, solver.intercept_
    if n_classes == 2:
        weights, intercepts = np.concatenate([-weights, weights]) / 2, np.concatenate([-intercepts, intercepts]) / 2
    intercepts = intercepts - intercepts.mean()
    return weights.astype(np.float32), intercepts.astype(np.float32)


@cache
def _linear_algebra() -> ThreadpoolController:
    """Return the handle of the BLAS libraries in this process; finding them takes milliseconds."""
    return ThreadpoolController()
