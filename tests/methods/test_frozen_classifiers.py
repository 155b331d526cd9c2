"""Classifiers of many episodes at once against naive ones of a single episode and query."""

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from rayfs.engine.logistic_regression import fit_logistic_regression
from rayfs.errors import InputError
from rayfs.hashing import stable_hash
from rayfs.methods.classifiers import registry
from rayfs.methods.classifiers.definition import ClassifierSettings
from rayfs.methods.classifiers.predict import predict, prepare_features
from rayfs.methods.classifiers.registry import classifier_settings

N_WAY, N_EPISODES, N_QUERIES, D = 4, 6, 20, 12


def config(name: str, normalize: bool = True) -> ClassifierSettings:
    given = {"c": 1.0, "svm_c": 1.0, "support_views": 5, "view_seed": 0}
    return classifier_settings([name], normalize=normalize, **given)[name]


def blobs(n_rows: int, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return support features (E, n_way n_rows, D), their labels, query features (E, Q, D) and their labels."""
    draw = np.random.default_rng(n_rows)
    centres = draw.normal(size=(N_EPISODES, N_WAY, D))
    labels, truth = np.repeat(np.arange(N_WAY), n_rows), np.arange(N_QUERIES) % N_WAY
    support = centres[:, labels] + spread * draw.normal(size=(N_EPISODES, len(labels), D))
    query = centres[:, truth] + spread * draw.normal(size=(N_EPISODES, N_QUERIES, D))
    return tuple(torch.from_numpy(array) for array in (support.astype(np.float32), labels, query, truth))


def naive(name: str, support: np.ndarray, labels: np.ndarray, query: np.ndarray) -> list[int]:
    """Classify the queries (Q, D) of one episode by the definition, one distance or angle at a time."""
    if name == "svm":
        return SVC(kernel="linear", C=1.0).fit(support, labels).predict(query).tolist()
    if name == "logistic-regression":
        weights, intercepts = fit_logistic_regression(support, labels)
        return [int(np.argmax(weights @ q + intercepts)) for q in query]
    if name == "nearest-neighbour":
        return [int(labels[np.argmin([np.linalg.norm(q - s) for s in support])]) for q in query]
    if name == "prototype":
        means = [support[labels == k].mean(axis=0) for k in range(N_WAY)]
        return [int(np.argmin([np.linalg.norm(q - mean) for mean in means])) for q in query]
    unit = support / np.linalg.norm(support, axis=1, keepdims=True)
    means = [unit[labels == k].mean(axis=0) for k in range(N_WAY)]
    return [int(np.argmax([q @ mean / np.linalg.norm(q) / np.linalg.norm(mean) for mean in means])) for q in query]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("n_rows", [1, 5])
@pytest.mark.parametrize("name", registry.names())
def test_predictions_are_those_of_a_naive_classifier(name: str, n_rows: int, normalize: bool) -> None:
    support, labels, query, _ = blobs(n_rows)
    support, query = prepare_features(support, normalize), prepare_features(query, normalize)
    found = predict(config(name, normalize), support, labels, query)
    assert found.shape == (N_EPISODES, N_QUERIES) and found.dtype == torch.int64
    expected = [naive(name, support[e].numpy(), labels.numpy(), query[e].numpy()) for e in range(N_EPISODES)]
    assert found.tolist() == expected


@pytest.mark.parametrize("name", registry.names())
def test_separable_classes_are_told_apart(name: str) -> None:
    support, labels, query, truth = blobs(3, spread=0.1)
    found = predict(config(name), prepare_features(support, True), labels, prepare_features(query, True))
    assert (found == truth).all()


@pytest.mark.parametrize("name", registry.names())
def test_permuting_the_classes_permutes_the_predictions(name: str) -> None:
    support, labels, query, _ = blobs(5)
    support, query = prepare_features(support, True), prepare_features(query, True)
    permuted = torch.tensor([2, 0, 3, 1])
    found = predict(config(name), support, permuted[labels], query)
    expected = permuted[predict(config(name), support, labels, query)]
    # scikit-learn's SVM breaks ties of votes by the number of the class.
    assert (found == expected).float().mean() >= (0.95 if name == "svm" else 1.0)


@pytest.mark.parametrize("name", registry.names())
def test_the_order_of_the_support_rows_decides_nothing(name: str) -> None:
    support, labels, query, _ = blobs(5)
    support, query = prepare_features(support, True), prepare_features(query, True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    found = predict(config(name), support[:, order], labels[order], query)
    assert torch.equal(found, predict(config(name), support, labels, query))


def test_prototype_and_cosine_differ_as_worked_by_hand() -> None:
    # Class 0 has the mean (0.6, 0) of unit features that disagree, class 1 the feature (0, 1) twice. The query at 50
    # degrees: cosines 0.643 and 0.766; squared distances 0.589 and 0.468. The one at 46: 0.695, 0.719; 0.526, 0.561.
    support = torch.tensor([[[0.6, 0.8], [0.6, -0.8], [0.0, 1.0], [0.0, 1.0]]])
    angles = torch.deg2rad(torch.tensor([50.0, 46.0]))
    query = prepare_features(torch.stack([angles.cos(), angles.sin()], 1)[None], True)
    support, labels = prepare_features(support, True), torch.tensor([0, 0, 1, 1])
    assert predict(config("prototype"), support, labels, query).tolist() == [[1, 0]]
    assert predict(config("cosine"), support, labels, query).tolist() == [[1, 1]]


def test_features_are_made_unit_length_in_float64_and_zero_stays_zero() -> None:
    given = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])
    prepared = prepare_features(given, True)
    assert prepared.dtype == torch.float64
    assert torch.allclose(prepared, torch.tensor([[[0.6, 0.8], [0.0, 0.0]]], dtype=torch.float64))
    assert torch.equal(prepare_features(given, False), given.double())


def test_only_classifiers_that_are_fitted_have_a_penalty_and_only_views_a_seed() -> None:
    given = {"c": 2.0, "svm_c": 0.5, "normalize": True, "view_seed": 3}
    configs = classifier_settings(registry.names(), support_views=5, **given)
    assert {name: config.c for name, config in configs.items()} == {
        "logistic-regression": 2.0, "nearest-neighbour": None, "prototype": None, "cosine": None, "svm": 0.5,
    }  # fmt: skip
    assert configs["logistic-regression"].view_seed == 3
    assert classifier_settings(("lr",), support_views=0, **given)["logistic-regression"].view_seed == 0


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"classifier": "lr", "c": 0.0}, "c is 0.0; expected a positive number"),
        ({"classifier": "lr", "c": 1.0, "support_views": -1}, "support_views is -1"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        ClassifierSettings(**wrong)


def test_settings_of_no_classifier_are_refused() -> None:
    with pytest.raises(InputError, match="classifier is 'maml'; expected one of lr, nearest"):
        registry.classifier_of(ClassifierSettings(classifier="maml", c=None))


def test_rows_keep_the_hashes_that_they_had_under_the_former_name() -> None:
    config = classifier_settings(["lr"], c=1.0, svm_c=1.0, normalize=True, support_views=5, view_seed=0)
    assert {name: stable_hash(each) for name, each in config.items()} == {"logistic-regression": "210d74561e1d4e6b"}
