"""Logistic regression: optimality, agreement with a slow independent solver, two classes, what it refuses."""

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from rayfs.engine.logistic_regression import fit_logistic_regression

SHAPES = [(2, 1, 4), (2, 15, 30), (3, 2, 5), (5, 25, 64), (10, 5, 16), (20, 1, 64)]
"""(classes, images a class, features)."""


def problem(n_classes: int, n_each: int, n_features: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return unit-length features around one direction a class, and labels in mixed order."""
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.repeat(np.arange(n_classes), n_each))
    z = draw.normal(size=(n_classes, n_features))[labels] + draw.normal(size=(len(labels), n_features))
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32), labels


def objective_and_gradient(
    weights: np.ndarray, intercepts: np.ndarray, z: np.ndarray, labels: np.ndarray, c: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return `1/2 ||W||² + c Σ_i CE(W z_i + b, y_i)` and its gradients, by a loop over the images in float64."""
    weights, intercepts, z = weights.astype(np.float64), intercepts.astype(np.float64), z.astype(np.float64)
    value, by_weights, by_intercepts = 0.5 * (weights**2).sum(), weights.copy(), np.zeros_like(intercepts)
    for z_i, y_i in zip(z, labels, strict=True):
        scores = weights @ z_i + intercepts
        log_p = scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())
        value -= c * log_p[y_i]
        error = np.exp(log_p) - np.eye(len(scores))[y_i]
        by_weights += c * np.outer(error, z_i)
        by_intercepts += c * error
    return value, by_weights, by_intercepts


def slow_solution(z: np.ndarray, labels: np.ndarray, c: float) -> np.ndarray:
    """Return the logits (N, K), minus their row means, at the optimum a trust-region solver finds in float64."""
    n_classes, n_features = labels.max() + 1, z.shape[1]

    def unpack(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return theta[n_classes:].reshape(n_classes, n_features), theta[:n_classes]

    def packed(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, by_weights, by_intercepts = objective_and_gradient(*unpack(theta), z, labels, c)
        return value, np.concatenate([by_intercepts, by_weights.ravel()])

    start = np.zeros(n_classes * (n_features + 1))
    options = {"gtol": 1e-11, "ftol": 1e-16, "maxiter": 5000, "maxcor": 50, "maxfun": 50_000}
    found = minimize(packed, start, jac=True, method="L-BFGS-B", options=options)
    assert np.abs(found.jac).max() < 1e-5
    weights, intercepts = unpack(found.x)
    return centred(z @ weights.T + intercepts)


def centred(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("c", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_the_objective_vanishes_at_the_solution(shape, c):
    """A penalised intercept would leave a gradient of b in by_intercepts, an unpenalised W one of W in by_weights."""
    z, labels = problem(*shape)
    weights, intercepts = fit_logistic_regression(z, labels, c)
    _, by_weights, by_intercepts = objective_and_gradient(weights, intercepts, z, labels, c)
    limit = 1e-4 * max(1.0, c * len(labels) / 100)  # the tolerance is of the mean over the images
    assert np.abs(by_weights).max() < limit
    assert np.abs(by_intercepts).max() < limit


@pytest.mark.parametrize(("shape", "c"), [((2, 8, 10), 1.0), ((2, 1, 4), 10.0), ((3, 2, 5), 0.3), ((5, 5, 16), 1.0)])
def test_logits_are_those_of_a_slow_independent_solver(shape, c):
    z, labels = problem(*shape, seed=1)
    weights, intercepts = fit_logistic_regression(z, labels, c)
    logits = centred(z @ weights.T + intercepts)
    np.testing.assert_allclose(logits, slow_solution(z, labels, c), atol=2e-4)


def test_logits_of_an_episode_are_within_a_thousandth_of_the_optimum():
    z, labels = problem(5, 25, 64, seed=2)
    weights, intercepts = fit_logistic_regression(z, labels)
    precise = LogisticRegression(C=1.0, solver="newton-cg", tol=1e-12, max_iter=1000).fit(z.astype(np.float64), labels)
    expected = centred(precise.decision_function(z))
    assert np.abs(centred(z @ weights.T + intercepts) - expected).max() < 1e-3


def test_two_classes_worked_by_hand():
    """Images +1 and -1 on a line: b = 0 and w_1 = -w_0 = w solves w = 2 c σ(-2 w) / 1 by symmetry."""
    z, labels = np.array([[-1.0], [1.0]]), np.array([0, 1])
    weights, intercepts = fit_logistic_regression(z, labels, c=1.0)
    w = weights[1, 0]
    assert w == pytest.approx(2 / (1 + np.exp(2 * w)), rel=1e-5)
    assert weights[0, 0] == -w
    assert intercepts.tolist() == pytest.approx([0, 0], abs=1e-6)


def test_two_classes_are_the_multinomial_problem_not_the_binary_one():
    """The binary problem penalises w_1 - w_0 and not both: at the same C it shrinks the logits more."""
    z, labels = problem(2, 10, 6)
    weights, intercepts = fit_logistic_regression(z, labels)
    binary = LogisticRegression(C=1.0).fit(z, labels).decision_function(z)
    difference = (z @ weights.T + intercepts) @ [-1, 1]
    assert np.abs(difference).mean() > 1.2 * np.abs(binary).mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_the_weights_and_the_intercepts_sum_to_zero(shape):
    n_classes, _, n_features = shape
    weights, intercepts = fit_logistic_regression(*problem(*shape))
    assert (weights.shape, intercepts.shape) == ((n_classes, n_features), (n_classes,))
    assert weights.dtype == intercepts.dtype == np.float32
    np.testing.assert_allclose(weights.sum(axis=0), 0, atol=1e-4)
    assert intercepts.sum() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_larger_c_fits_the_images_closer(n_classes):
    z, labels = problem(n_classes, 5, 12)
    norms = [np.linalg.norm(fit_logistic_regression(z, labels, c)[0]) for c in (0.01, 0.1, 1.0, 10.0, 100.0)]
    assert norms == sorted(norms) and norms[-1] > 10 * norms[0]


def test_intercept_absorbs_unequal_class_sizes_without_penalty():
    """Features that say nothing leave the class frequencies: softmax(b) = (1, 2, 5) / 8."""
    _, intercepts = fit_logistic_regression(np.zeros((8, 3)), np.repeat([0, 1, 2], [1, 2, 5]))
    np.testing.assert_allclose(np.exp(intercepts) / np.exp(intercepts).sum(), [1 / 8, 2 / 8, 5 / 8], atol=1e-4)


def test_same_images_give_the_same_bits():
    z, labels = problem(5, 5, 32)
    first, again = fit_logistic_regression(z, labels), fit_logistic_regression(z.copy(), labels.copy())
    assert first[0].tobytes() == again[0].tobytes() and first[1].tobytes() == again[1].tobytes()


def test_bits_do_not_depend_on_the_threads_of_the_process():
    z, labels = problem(5, 25, 64)
    alone = fit_logistic_regression(z, labels)
    with threadpool_limits(2, user_api="blas"):
        beside = fit_logistic_regression(z, labels)
        kept = {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
    assert alone[0].tobytes() == beside[0].tobytes()
    assert kept == {2}, "the limit ends with the fit"


def test_order_of_the_images_does_not_matter():
    z, labels = problem(4, 6, 10)
    order = np.random.default_rng(3).permutation(len(z))
    straight, shuffled = fit_logistic_regression(z, labels), fit_logistic_regression(z[order], labels[order])
    np.testing.assert_allclose(shuffled[0], straight[0], atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_converges_on_repeated_and_nearly_equal_images(seed):
    draw = np.random.default_rng(seed)
    z = np.repeat(draw.normal(size=(4, 8)), 5, axis=0) + 1e-6 * draw.normal(size=(20, 8))
    weights, _ = fit_logistic_regression(z / np.linalg.norm(z, axis=1, keepdims=True), np.repeat(np.arange(4), 5))
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("labels", [[0, 0, 2, 2], [1, 1, 2, 2], [0, 0, 0, 0], [1, 1, 1, 1]])
def test_class_without_images_is_refused(labels):
    with pytest.raises(ValueError, match="classes have images; expected every label from 0 to"):
        fit_logistic_regression(np.eye(4), np.array(labels))


def test_solver_that_stops_early_is_an_error(monkeypatch):
    def give_up(self, features, labels):
        warnings.warn("lbfgs failed to converge", ConvergenceWarning, stacklevel=2)

    monkeypatch.setattr(LogisticRegression, "fit", give_up)
    with pytest.raises(ConvergenceWarning):
        fit_logistic_regression(*problem(3, 2, 5))
