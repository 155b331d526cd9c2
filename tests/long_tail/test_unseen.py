"""Classes that the network has not seen: what they learn from, what they never give, and what is refused."""

from dataclasses import replace

import naive_transfer as naive
import numpy as np
import pytest
import torch
from small_problem import COUNTS

from rayfs.errors import InputError
from rayfs.long_tail.centres import ClassCentres, compose
from rayfs.long_tail.ensemble import class_probabilities, predict
from rayfs.long_tail.mismatches import mismatched
from rayfs.long_tail.settings import (
    CONTINUAL,
    COSINE,
    PROTOTYPES,
    SUM,
    WEIGHTS,
    composed,
    continual,
    paper_classifiers,
    unseen_classifiers,
)
from rayfs.long_tail.transfer import transfer_weights

C = len(COUNTS)


def partly_seen(centres: ClassCentres, seen: set[int]) -> ClassCentres:
    """Forget the weights of all other classes."""
    seen_C = torch.tensor([c in seen for c in range(C)])
    return replace(centres, seen_C=seen_C, weights_CD=centres.weights_CD * seen_C[:, None])


@pytest.mark.parametrize("seen", [{0, 1, 3, 4, 6}, set(range(1, C)), {2}], ids=["some", "all-but-one", "one"])
@pytest.mark.parametrize("attention", ["p-w", "p-p"])
def test_transfer_to_all_classes_comes_from_seen_ones_as_a_naive_loop_has_it(problem, seen, attention) -> None:
    """The most frequent class is unseen in two of the cases: it asks and is not asked."""
    centres = partly_seen(problem.centres, seen)
    found = compose(centres, [continual(0), continual(8), PROTOTYPES], attention)
    asked = [n if c in seen else 0 for c, n in enumerate(COUNTS)]  # 0 is above no threshold
    p, keys = centres.prototypes_CD.tolist(), centres.keys(attention).tolist()
    for k in (0, 8):
        alphas = transfer_weights(centres.queries(attention), centres.keys(attention), centres.asked_C, k, 10.0)
        assert set(torch.nonzero(alphas.sum(0)).flatten().tolist()) == {c for c in seen if COUNTS[c] > k}
        for i in range(C):
            expected = naive.continual(p, keys, p, asked, k, 10.0, i)
            assert torch.allclose(found[continual(k)][i], torch.tensor(expected, dtype=torch.float64), rtol=1e-10)
    assert torch.equal(found[PROTOTYPES], compose(problem.centres, [PROTOTYPES])[PROTOTYPES])


@pytest.mark.parametrize("seen", [{0, 1, 3, 4, 6}, {2}], ids=["some", "one"])
def test_the_trained_head_chooses_among_seen_classes_and_the_ensemble_among_all(problem, seen) -> None:
    centres = partly_seen(problem.centres, seen)
    classifiers = unseen_classifiers((0, 8), 10.0, True)
    made = compose(centres, dict.fromkeys(m for members in classifiers.values() for m in members))
    answers = predict(problem.test_ND, classifiers, made, 16.0)
    ids = sorted(seen)
    alone = class_probabilities(problem.test_ND, problem.centres.weights_CD[ids], 16.0)
    assert answers[COSINE].tolist() == [ids[place] for place in alone.argmax(1).tolist()]
    whole = class_probabilities(problem.test_ND, centres.weights_CD, 16.0)
    assert torch.allclose(whole[:, ids], alone) and not whole[:, [c for c in range(C) if c not in seen]].any()
    matrices = [made[member].tolist() for member in (PROTOTYPES, continual(8))]
    expected = [np.argmax(naive.ensemble(x, matrices, 16.0)) for x in problem.test_ND.tolist()]
    assert answers[CONTINUAL].tolist() == expected and set(expected) - seen


def test_all_classes_seen_is_as_if_nothing_was_said(problem) -> None:
    whole = replace(problem.centres, seen_C=torch.ones(C, dtype=torch.bool))
    members = [WEIGHTS, SUM, composed(20), continual(0)]
    found, expected = compose(whole, members), compose(problem.centres, members)
    assert all(torch.equal(found[m], expected[m]) for m in members)
    assert mismatched(whole).tolist() == mismatched(problem.centres).tolist()


def test_classifiers_without_weights_of_their_own_are_those_of_table_2() -> None:
    table = unseen_classifiers((0, 20, 100), 10.0, True)
    assert list(table) == ["cosine", "prototypes", "w^hc(20)", "w^hc(100)", "continual ensemble"]
    assert table[CONTINUAL] == (PROTOTYPES, continual(20), continual(100))
    assert table.items() <= paper_classifiers((0, 20, 100), 10.0, True).items()


def test_mismatches_are_counted_among_seen_classes(problem) -> None:
    seen = [0, 1, 3, 4, 6]
    p, w = problem.centres.prototypes_CD, problem.centres.weights_CD
    cosines = torch.nn.functional.cosine_similarity(p[seen, None], w[None, seen], dim=2)
    expected = np.zeros(C, dtype=bool)
    expected[seen] = (cosines.argmax(1) != torch.arange(len(seen))).numpy()
    assert mismatched(partly_seen(problem.centres, set(seen))).tolist() == expected.tolist() and expected.any()
    opposite = replace(problem.centres, weights_CD=-problem.centres.prototypes_CD)
    assert not mismatched(partly_seen(opposite, {2})).any(), "a cosine of -1 is the closest there is"


def test_what_unseen_classes_cannot_have_is_refused(problem) -> None:
    centres = partly_seen(problem.centres, {2, 4, 5})
    with pytest.raises(InputError, match=r"k is 20 but no class that the head knows has more than 20 .*the most is 20"):
        compose(centres, [continual(20)])
    for member in (SUM, composed(0)):
        with pytest.raises(InputError, match=r"needs the weights of every class, and 4 of 7 have none"):
            compose(centres, [member])
    with pytest.raises(InputError, match=r"attention w-p: weights ask, and 4 of 7 classes have none"):
        compose(centres, [continual(0)], "w-p")
    with pytest.raises(InputError, match="7 classes, of which 0 were trained on"):
        partly_seen(problem.centres, set())
    with pytest.raises(InputError, match="has classifier weights; expected 0 for it"):
        replace(centres, weights_CD=problem.centres.weights_CD)
    with pytest.raises(InputError, match="the classifier weight of 1 of 3 classes is 0"):
        replace(centres, weights_CD=centres.weights_CD * (torch.arange(C) != 4)[:, None])
