"""Few-shot accuracy on validation classes, against a loop over episodes and queries."""

import numpy as np
import pytest

from rayfs.datasets.episodes import Protocol, draw_episode
from rayfs.engine.logistic_regression import fit_logistic_regression
from rayfs.errors import InputError
from rayfs.training.accuracies import class_accuracy, few_shot_accuracy, validation_protocol
from rayfs.training.config import PretrainConfig

PROTOCOL = Protocol(n_way=3, n_shot=2, n_query=4, split="validation", seed=7)


def test_accuracy_equals_a_loop_over_episodes_and_queries(validation):
    features = np.random.default_rng(0).normal(size=(len(validation), 6)).astype(np.float32)
    features += 0.8 * np.eye(6, dtype=np.float32)[validation.labels]
    found = few_shot_accuracy(features, validation, PROTOCOL, 4)
    expected = []
    for index in range(4):
        episode = draw_episode(validation.offsets, validation.fingerprint, PROTOCOL, index)
        support = [(features[row], way) for way in range(3) for row in episode.support_ids[way]]
        z = np.array([feature / np.sqrt((feature**2).sum()) for feature, _ in support])
        weights, intercepts = fit_logistic_regression(z, np.array([way for _, way in support]))
        right = 0
        for way in range(3):
            for row in episode.query_ids[way]:
                z = features[row] / np.sqrt((features[row] ** 2).sum())
                scores = [w @ z + b for w, b in zip(weights, intercepts, strict=True)]
                right += scores.index(max(scores)) == way
        expected.append(right / 12)
    assert found.tolist() == pytest.approx(expected)
    assert 1 / 3 < found.mean() < 1


def test_features_that_name_the_class_are_always_right(validation):
    features = np.eye(6, dtype=np.float32)[validation.labels]
    assert few_shot_accuracy(features, validation, PROTOCOL, 3).tolist() == [1.0, 1.0, 1.0]


def test_zero_features_are_no_error(validation):
    found = few_shot_accuracy(np.zeros((len(validation), 6), dtype=np.float32), validation, PROTOCOL, 2)
    assert found.tolist() == pytest.approx([1 / 3, 1 / 3])


@pytest.mark.parametrize(("n_shot", "n_query"), [(1, 15), (5, 15), (8, 12), (19, 1)])
def test_protocol_takes_15_queries_or_what_the_smallest_class_has_left(validation, n_shot, n_query):
    protocol = validation_protocol(PretrainConfig(validation_n_shot=n_shot, seed=3), validation)
    assert (protocol.n_way, protocol.n_shot, protocol.n_query) == (5, n_shot, n_query)
    assert (protocol.split, protocol.seed) == ("validation", 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_n_way": 7}, r"^--validation-n-way, .* has 6 classes but the protocol asks for 7-way"),
        (
            {"validation_n_shot": 20},
            r"^--validation-n-way, .* has 20 images but an episode takes 20 support \+ 1 query",
        ),
    ],
)
def test_protocol_that_the_classes_cannot_serve_is_refused(validation, changes, message):
    with pytest.raises(InputError, match=message):
        validation_protocol(PretrainConfig(**changes), validation)


def test_accuracy_of_each_class_equals_a_loop_and_classes_are_matched_by_name(validation):
    """The classifier has two classes more than the table, in another order."""
    names = ("zebra", *reversed(validation.class_names), "ant")
    logits = np.random.default_rng(0).normal(size=(len(validation), 8))
    for row, label in enumerate(validation.labels):
        logits[row, names.index(validation.class_names[label])] += 1.5
    expected = []
    for name in validation.class_names:
        rows = [i for i, label in enumerate(validation.labels) if validation.class_names[label] == name]
        expected.append(sum(names[int(logits[i].argmax())] == name for i in rows) / len(rows))
    found = class_accuracy(logits, names, validation)
    assert found.tolist() == pytest.approx(expected)
    assert 0.2 < found.mean() < 0.9 and len(set(expected)) > 1
