"""Equations 3 to 9 against naive loops, all thresholds at once against one at a time, and inputs that cannot work."""

import math
from dataclasses import replace

import naive_transfer as naive
import numpy as np
import pytest
import torch
from small_problem import COUNTS

from rayfs.errors import InputError
from rayfs.long_tail.centres import ClassCentres, compose
from rayfs.long_tail.ensemble import class_probabilities, ensemble_probabilities, predict
from rayfs.long_tail.mismatches import mismatched
from rayfs.long_tail.prototypes import class_prototypes
from rayfs.long_tail.settings import ATTENTIONS, PROTOTYPES, SUM, WEIGHTS, Member, composed, continual
from rayfs.long_tail.transfer import transfer, transfer_weights

THRESHOLDS = (0, 1, 8, 20, 24, 39)


def close(values: torch.Tensor, expected: list) -> bool:
    return torch.allclose(values, torch.tensor(expected, dtype=values.dtype), rtol=1e-10, atol=1e-12)


def test_prototypes_are_means_of_unit_features(problem) -> None:
    features, labels = problem.features_ND.tolist(), problem.labels_N.tolist()
    expected = [naive.prototype(features, labels, i) for i in range(len(COUNTS))]
    assert close(problem.centres.prototypes_CD, expected)


def test_prototypes_of_views_average_over_all_views(problem) -> None:
    views_NVD = torch.stack([problem.features_ND, problem.features_ND.flip(1)], dim=1)
    both = torch.cat([problem.features_ND, problem.features_ND.flip(1)])
    names = problem.centres.class_names
    expected = class_prototypes(both, problem.labels_N.repeat(2), names)
    assert torch.allclose(class_prototypes(views_NVD, problem.labels_N, names), expected, rtol=1e-12)


@pytest.mark.parametrize("own_neighbour", [True, False])
@pytest.mark.parametrize("tau", [0.0, 1.0, 10.0, 3000.0])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_transfer_is_equations_4_to_6_for_every_threshold(problem, attention, tau, own_neighbour) -> None:
    queries, keys = problem.centres.queries(attention), problem.centres.keys(attention)
    thresholds = [k for k in THRESHOLDS if own_neighbour or k < 25]
    own = None if own_neighbour else torch.arange(len(COUNTS))
    together = transfer(queries, keys, problem.centres.counts_C, thresholds, tau, own)
    for k, transferred in zip(thresholds, together, strict=True):
        for i in range(len(COUNTS)):
            expected = naive.transferred(queries.tolist(), keys.tolist(), COUNTS, k, tau, i, own_neighbour)
            assert close(transferred[i], expected), (k, i)
            alphas = naive.attention(queries.tolist(), keys.tolist(), COUNTS, k, tau, i, own_neighbour)
            weights = transfer_weights(queries, keys, problem.centres.counts_C, k, tau, own)[i]
            assert close(weights, [alphas.get(j, 0.0) for j in range(len(COUNTS))]), (k, i)


def test_attention_names_say_who_asks_and_who_is_asked(problem) -> None:
    p, w = problem.centres.prototypes_CD, problem.centres.weights_CD
    for attention, expected in {"p-w": (p, w), "w-p": (w, p), "w-w": (w, w), "p-p": (p, p)}.items():
        assert problem.centres.queries(attention) is expected[0] and problem.centres.keys(attention) is expected[1]


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_composed_classifiers_are_equations_7_and_9(problem, attention) -> None:
    p, w = problem.centres.prototypes_CD.tolist(), problem.centres.weights_CD.tolist()
    queries, keys = problem.centres.queries(attention).tolist(), problem.centres.keys(attention).tolist()
    members = [m(k, tau) for m in (composed, continual) for k in (20, 0) for tau in (10.0, 3.0)]
    found = compose(problem.centres, [*members, WEIGHTS, PROTOTYPES, SUM], attention)
    assert list(found) == [*members, WEIGHTS, PROTOTYPES, SUM]
    for i in range(len(COUNTS)):
        for k, tau in ((20, 10.0), (0, 3.0)):
            expected = naive.composed(queries, keys, p, w, COUNTS, k, tau, i)
            assert close(found[composed(k, tau)][i], expected)
            assert close(found[continual(k, tau)][i], naive.continual(queries, keys, p, COUNTS, k, tau, i))
        assert close(found[SUM][i], naive.total([naive.unit(p[i]), naive.unit(w[i])]))
        assert close(found[PROTOTYPES][i], naive.unit(p[i])) and close(found[WEIGHTS][i], naive.unit(w[i]))


def test_ensembles_are_means_of_softmax_probabilities(problem) -> None:
    classifier = (composed(0), composed(20), PROTOTYPES)
    found = compose(problem.centres, classifier)
    probabilities = ensemble_probabilities(problem.test_ND, classifier, found, 16.0)
    matrices = [found[member].tolist() for member in classifier]
    for n in (0, 33, 80):
        assert close(probabilities[n], naive.ensemble(problem.test_ND[n].tolist(), matrices, 16.0))
    single = class_probabilities(problem.test_ND, found[PROTOTYPES], 16.0)
    assert close(single[5], naive.probabilities(problem.test_ND[5].tolist(), matrices[2], 16.0))
    answers = predict(problem.test_ND, {"one": (PROTOTYPES,), "all": classifier}, found, 16.0)
    assert np.array_equal(answers["all"], probabilities.argmax(1)) and np.array_equal(answers["one"], single.argmax(1))


def test_large_heads_in_float32_agree_with_one_threshold_at_a_time() -> None:
    generator = torch.Generator().manual_seed(0)
    weights_CD, prototypes_CD = torch.randn(2, 60, 16, generator=generator)
    counts_C = torch.randint(1, 500, (60,), generator=generator)
    thresholds = range(0, 400, 4)
    together = transfer(prototypes_CD, weights_CD, counts_C, thresholds, 10.0)
    unit_CD = weights_CD / weights_CD.norm(dim=1, keepdim=True)
    for k, transferred in zip(thresholds, together, strict=True):
        alone = transfer_weights(prototypes_CD, weights_CD, counts_C, k, 10.0) @ unit_CD
        assert torch.allclose(transferred, alone, rtol=1e-4, atol=1e-6)


def test_permuting_the_classes_permutes_the_classifier(problem) -> None:
    order = torch.tensor([3, 0, 6, 2, 1, 5, 4])
    c = problem.centres
    permuted = ClassCentres(
        class_names=tuple(c.class_names[i] for i in order), counts_C=c.counts_C[order],
        prototypes_CD=c.prototypes_CD[order], weights_CD=c.weights_CD[order], scale=c.scale,
    )  # fmt: skip
    for own_neighbour in (True, False):
        plain = compose(c, [composed(8)], own_neighbour=own_neighbour)[composed(8)]
        assert torch.allclose(compose(permuted, [composed(8)], own_neighbour=own_neighbour)[composed(8)], plain[order])


def test_a_class_with_exactly_k_images_gives_nothing_and_ties_share(problem) -> None:
    c = problem.centres
    alphas = transfer_weights(c.prototypes_CD, c.weights_CD, c.counts_C, 20, 10.0)
    assert (alphas[:, :2] > 0).all() and (alphas[:, 2:] == 0).all()
    twins = c.weights_CD.clone()
    twins[1] = 2 * twins[0]  # the same direction
    alphas = transfer_weights(c.prototypes_CD, twins, c.counts_C, 20, 10.0)
    assert torch.allclose(alphas[:, :2], torch.tensor(0.5, dtype=torch.float64))


def test_equally_probable_classes_give_the_first_of_them() -> None:
    weights = {PROTOTYPES: torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])}
    answers = predict(torch.tensor([[3.0, 0.0]]), {"prototypes": (PROTOTYPES,)}, weights, 16.0)
    assert answers["prototypes"].tolist() == [1]


def test_a_single_class_is_always_right() -> None:
    one = ClassCentres(
        class_names=("only",), counts_C=torch.tensor([5]), prototypes_CD=torch.tensor([[0.0, 2.0]]),
        weights_CD=torch.tensor([[1.0, 0.0]]), scale=16.0,
    )  # fmt: skip
    found = compose(one, [composed(4)])
    assert torch.allclose(found[composed(4)], torch.tensor([[2.0, 1.0]]))
    assert predict(torch.ones(3, 2), {"h": (composed(4),)}, found, 16.0)["h"].tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="a single class has more than 4 training images"):
        compose(one, [composed(4)], own_neighbour=False)


def test_mismatches_are_prototypes_closest_to_the_weights_of_another_class(problem) -> None:
    p, w = problem.centres.prototypes_CD.tolist(), problem.centres.weights_CD.tolist()
    expected = []
    for i in range(len(COUNTS)):
        cosines = [naive.dot(naive.unit(p[i]), naive.unit(w[j])) for j in range(len(COUNTS))]
        expected.append(any(cosine > cosines[i] for cosine in cosines))
    assert mismatched(problem.centres).tolist() == expected and 0 < sum(expected) < len(COUNTS)
    twins = replace(problem.centres, weights_CD=problem.centres.weights_CD[:1].expand(len(COUNTS), -1))
    assert mismatched(twins).sum() == 0, "equally close to all is no mismatch"


def test_impossible_inputs_are_refused_with_the_numbers(problem) -> None:
    c = problem.centres
    with pytest.raises(
        InputError, match=r"k is 40 but no class that the head knows has more than 40 .*the most is 40."
    ):
        compose(c, [composed(40)])
    with pytest.raises(InputError, match="a single class has more than 30"):
        compose(c, [composed(30)], own_neighbour=False)
    features, labels = problem.features_ND.clone(), problem.labels_N
    with pytest.raises(InputError, match=r"1 of 8 classes have 0 training images.*'eighth'"):
        class_prototypes(features, labels, [*c.class_names, "eighth"])
    with pytest.raises(InputError, match="a label is 6 but there are 3 classes"):
        class_prototypes(features, labels, c.class_names[:3])
    with pytest.raises(InputError, match="the prototype of 1 of 7 classes is 0"):
        class_prototypes(torch.where(labels[:, None] == 5, 0.0, features), labels, c.class_names)
    features[4, 2] = math.nan
    with pytest.raises(InputError, match=r"1 of 118 rows are not finite .first: row 4."):
        class_prototypes(features, labels, c.class_names)
    with pytest.raises(InputError, match="1 of 118 rows are not finite"):
        predict(features, {"cosine": (WEIGHTS,)}, compose(c, [WEIGHTS]), 16.0)
    with pytest.raises(InputError, match="0 images to classify"):
        predict(features[:0], {"cosine": (WEIGHTS,)}, compose(c, [WEIGHTS]), 16.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"weights_CD": torch.full((7, 5), math.inf)}, "weights of the classes: 7 of 7 rows are not finite"),
        ({"weights_CD": torch.zeros(7, 5)}, "classifier weight of 7 of 7 classes is 0"),
        ({"weights_CD": torch.ones(6, 5)}, r"7 classes, prototypes \(7, 5\), classifier weights \(6, 5\)"),
        ({"scale": math.nan}, "scale of the cosine head is nan"),
        ({"scale": 0.0}, "scale of the cosine head is 0.0"),
    ],
)
def test_damaged_heads_are_refused(problem, changes, expected) -> None:
    with pytest.raises(InputError, match=expected):
        replace(problem.centres, **changes)


@pytest.mark.parametrize(
    "settings",
    [
        {"terms": ()},
        {"terms": ("weight", "prototype")},
        {"terms": ("weight",), "k": 20, "tau": 10.0},
        {"terms": ("transfer",), "k": 20},
        {"terms": ("transfer",), "k": -1, "tau": 10.0},
        {"terms": ("transfer",), "k": 0, "tau": math.inf},
    ],
)
def test_members_without_meaning_are_refused(settings) -> None:
    with pytest.raises(InputError):
        Member(**settings)
