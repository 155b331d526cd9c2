"""The batched solver agrees with scikit-learn, one episode at a time, and with the equation of the optimum."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from rayfs.engine import batched_logistic_regression as module
from rayfs.engine.batched_logistic_regression import fit_batched_logistic_regression
from rayfs.engine.logistic_regression import fit_logistic_regression


def episodes(n_episodes: int, n_rows: int, n_features: int, n_way: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Return unit-length features (E, N, D) of overlapping classes, positive as after a ReLU, and labels (N,)."""
    draw = np.random.default_rng([n_rows, n_features, n_way])
    centres = draw.normal(size=(n_episodes, n_way, n_features))
    labels = np.arange(n_rows) % n_way
    features = np.maximum(centres[:, labels] + 2 * draw.normal(size=(n_episodes, n_rows, n_features)), 0.01)
    unit = features / np.linalg.norm(features, axis=2, keepdims=True)
    return torch.from_numpy(unit.astype(np.float32)), torch.from_numpy(labels)


def centred(logits: np.ndarray) -> np.ndarray:
    """A constant added to all classes changes nothing."""
    return logits - logits.mean(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("n_rows", "n_features", "n_way", "c"),
    [
        (5, 64, 5, 1.0), (25, 64, 5, 1.0), (125, 64, 5, 1.0), (625, 64, 5, 1.0), (5, 640, 5, 1.0), (25, 640, 5, 1.0),
        (125, 640, 5, 1.0), (640, 640, 5, 1.0), (100, 64, 20, 1.0), (64, 64, 5, 1.0), (125, 64, 5, 0.01),
        (125, 64, 5, 100.0), (25, 640, 5, 100.0), (25, 640, 5, 0.01),
    ],
)  # fmt: skip
def test_logits_are_those_of_scikit_learn(n_rows: int, n_features: int, n_way: int, c: float) -> None:
    features, labels = episodes(2, n_rows, n_features, n_way)
    queries = episodes(2, 40, n_features)[0].double().numpy()
    weights, intercepts = fit_batched_logistic_regression(features, labels, c)
    for e in range(2):
        with threadpool_limits(1, user_api="blas"):  # a second thread mostly waits
            solver = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit(features[e].double(), labels)
        expected = centred(queries[e] @ solver.coef_.T + solver.intercept_)
        np.testing.assert_allclose(queries[e] @ weights[e].numpy().T + intercepts[e].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("n_rows", "n_features"), [(50, 8), (6, 64)])
def test_two_classes_are_those_of_the_reference(n_rows: int, n_features: int) -> None:
    features, labels = episodes(3, n_rows, n_features, n_way=2)
    weights, intercepts = fit_batched_logistic_regression(features, labels)
    for e in range(3):
        expected_weights, expected_intercepts = fit_logistic_regression(features[e].numpy(), labels.numpy())
        np.testing.assert_allclose(weights[e].numpy(), expected_weights, atol=1e-4)
        np.testing.assert_allclose(intercepts[e].numpy(), expected_intercepts, atol=1e-4)


@pytest.mark.parametrize("c", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("n_rows", "n_features"), [(25, 8), (25, 100)])
def test_the_gradient_of_the_objective_vanishes(n_rows: int, n_features: int, c: float) -> None:
    features, labels = episodes(4, n_rows, n_features)
    for e, (weights, intercepts) in enumerate(zip(*fit_batched_logistic_regression(features, labels, c), strict=True)):
        weights.requires_grad_(), intercepts.requires_grad_()
        logits = features[e].double() @ weights.T + intercepts
        objective = weights.square().sum() / 2 + c * F.cross_entropy(logits, labels, reduction="sum")
        for gradient in torch.autograd.grad(objective, (weights, intercepts)):
            assert gradient.abs().max() < 1e-6 * max(1.0, c)


def test_two_opposite_points_by_hand() -> None:
    # z = ±1, w_1 = -w_0 = w, b = 0: the derivative of w² + 2 log(1 + exp(-2 w)) is zero where w = 2 / (1 + exp(2 w)).
    weights, intercepts = fit_batched_logistic_regression(torch.tensor([[[-1.0], [1.0]]]), torch.tensor([0, 1]))
    w = float(weights[0, 1, 0])
    assert w == pytest.approx(2 / (1 + math.exp(2 * w)), abs=1e-8) and w == pytest.approx(0.5211, abs=1e-3)
    assert torch.allclose(weights.sum(1), torch.zeros(1, 1, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(intercepts, torch.zeros(1, 2, dtype=torch.float64), atol=1e-12)


def test_weights_and_intercepts_sum_to_zero_over_the_classes() -> None:
    for n_features in (8, 100):
        weights, intercepts = fit_batched_logistic_regression(*episodes(3, 30, n_features))
        assert weights.sum(1).abs().max() < 1e-7 and intercepts.sum(1).abs().max() < 1e-7


@pytest.mark.parametrize("n_features", [8, 100])
def test_an_episode_does_not_depend_on_the_others(n_features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = episodes(7, 30, n_features)
    features[3] = features[3] * 20  # far from the others: many more steps
    together = fit_batched_logistic_regression(features, labels)
    alone = [fit_batched_logistic_regression(features[e : e + 1], labels) for e in range(7)]
    torch.testing.assert_close(together[0], torch.cat([weights for weights, _ in alone]), atol=1e-10, rtol=0)
    monkeypatch.setattr(module, "CHUNK_BYTES", 2 * 8 * 30 * n_features)
    in_pairs = fit_batched_logistic_regression(features, labels)
    torch.testing.assert_close(together[0], in_pairs[0], atol=1e-10, rtol=0)


@pytest.mark.parametrize("n_features", [4, 50])
def test_rows_that_depend_on_each_other_are_no_trouble(n_features: int) -> None:
    features, labels = episodes(1, 20, n_features)
    features[0, 10:15] = features[0, 5:10]
    features[0, 15:] = 0
    weights, intercepts = fit_batched_logistic_regression(features, labels)
    expected_weights, expected_intercepts = fit_logistic_regression(features[0].numpy(), labels.numpy())
    np.testing.assert_allclose(weights[0].numpy(), expected_weights, atol=1e-4)
    np.testing.assert_allclose(intercepts[0].numpy(), expected_intercepts, atol=1e-4)


def test_features_that_are_all_zero_leave_the_prior() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    weights, intercepts = fit_batched_logistic_regression(torch.zeros(1, 4, 9), labels)
    assert weights.abs().max() < 1e-12
    assert float(intercepts[0, 0] - intercepts[0, 1]) == pytest.approx(math.log(3), abs=1e-6)


@pytest.mark.parametrize("labels", [[0, 0, 2], [1, 2, 1], [0, 0, 0]])
def test_a_class_without_rows_is_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="classes have rows; expected every label from 0 to"):
        fit_batched_logistic_regression(torch.ones(1, 3, 2), torch.tensor(labels))


def test_features_that_are_not_finite_are_refused() -> None:
    features, labels = episodes(2, 10, 4)
    features[1, 2, 0] = torch.nan
    with pytest.raises(ArithmeticError, match="not finite"):
        fit_batched_logistic_regression(features, labels)


def test_an_optimum_that_is_not_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STEPS", 2)
    with pytest.raises(ArithmeticError, match="3 of 3 episodes are not at the optimum after 2 steps"):
        fit_batched_logistic_regression(*episodes(3, 30, 8))


def test_a_gpu_gives_the_same(gpu: torch.device) -> None:
    for n_features in (8, 100):
        features, labels = episodes(20, 30, n_features)
        for there, here in zip(
            fit_batched_logistic_regression(features.to(gpu), labels.to(gpu)),
            fit_batched_logistic_regression(features, labels),
            strict=True,
        ):
            torch.testing.assert_close(there.cpu(), here, atol=1e-7, rtol=0)
