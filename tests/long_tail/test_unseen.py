"""Classes added from a few images: what they learn from, and what is refused."""

from dataclasses import replace

import naive_transfer as naive
import pytest
import torch
from small_problem import COUNTS

from rayfs.errors import InputError
from rayfs.long_tail.centres import ClassCentres
from rayfs.long_tail.unseen import extended_classifier, extended_prototypes

N_SEEN = 5


@pytest.fixture
def seen(problem) -> ClassCentres:
    """What was trained on the first five classes of the problem."""
    c = problem.centres
    return replace(
        c, class_names=c.class_names[:N_SEEN], counts_C=c.counts_C[:N_SEEN],
        prototypes_CD=c.prototypes_CD[:N_SEEN], weights_CD=c.weights_CD[:N_SEEN],
    )  # fmt: skip


def test_new_classes_learn_from_seen_ones_and_give_nothing(problem, seen) -> None:
    new = problem.labels_N >= N_SEEN
    names = problem.centres.class_names[N_SEEN:]
    prototypes = extended_prototypes(seen, problem.features_ND[new], problem.labels_N[new] - N_SEEN, names)
    assert torch.allclose(prototypes, problem.centres.prototypes_CD)
    found = extended_classifier(seen, prototypes, 0, 10.0)
    seen_only = [n if c < N_SEEN else 0 for c, n in enumerate(COUNTS)]  # a count of 0 is above no threshold
    p, w = prototypes.tolist(), problem.centres.weights_CD.tolist()
    for i in range(len(COUNTS)):
        expected = naive.continual(p, w, p, seen_only, 0, 10.0, i)
        assert torch.allclose(found[i], torch.tensor(expected, dtype=found.dtype))


def test_what_cannot_be_added_is_refused(problem, seen) -> None:
    features, labels = problem.features_ND[:2], torch.tensor([0, 1])
    with pytest.raises(InputError, match=r"1 of 2 new classes are known already .first: 'class 3'"):
        extended_prototypes(seen, features, labels, ["new", "class 3"])
    with pytest.raises(InputError, match="1 of 3 classes have 0 training images"):
        extended_prototypes(seen, features, labels, ["a", "b", "c"])
    with pytest.raises(InputError, match="new images have 4 features but the known classes 5"):
        extended_prototypes(seen, features[:, :4], labels, ["a", "b"])
    with pytest.raises(InputError, match="k is 40 but no class has more than 40"):
        extended_classifier(seen, problem.centres.prototypes_CD, 40, 10.0)
