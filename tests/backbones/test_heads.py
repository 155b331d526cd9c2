"""Linear head: the formula, its zero vector, and its initial values."""

import pytest
import torch
from torch import nn

from rayfs.backbones import LinearHead, l2_normalize
from rayfs.randomness import torch_generator


def make(normalize: bool = True, seed: int = 0) -> LinearHead:
    return LinearHead(16, 5, normalize, generator=torch_generator(seed, "head"))


def features(n: int = 7) -> torch.Tensor:
    return torch.randn(n, 16, generator=torch_generator(0, "features"))


def test_normalisation_worked_by_hand():
    rows = torch.tensor([[3.0, 4.0], [0.0, -2.0], [1e-20, 0.0]])
    torch.testing.assert_close(l2_normalize(rows), torch.tensor([[0.6, 0.8], [0.0, -1.0], [1.0, 0.0]]))


def test_zero_row_stays_zero_with_a_finite_gradient():
    rows = torch.zeros(2, 3, requires_grad=True)
    out = l2_normalize(rows)
    out.sum().backward()
    assert not out.any()
    assert rows.grad is not None and rows.grad.tolist() == torch.ones(2, 3).tolist()


def test_gradient_equals_that_of_the_plain_formula():
    rows = features().double().requires_grad_()
    assert torch.autograd.gradcheck(l2_normalize, rows)


@pytest.mark.parametrize("normalize", [False, True])
def test_logits_equal_a_loop_over_images_and_classes(normalize):
    head, rows = make(normalize), features()
    expected = torch.empty(7, 5)
    for n, row in enumerate(rows):
        z = row / row.pow(2).sum().sqrt() if normalize else row
        for k in range(5):
            expected[n, k] = (head.linear.weight[k] * z).sum() + head.linear.bias[k]
    torch.testing.assert_close(head(rows), expected, atol=1e-5, rtol=1e-5)


def test_normalised_head_ignores_the_scale_of_the_features():
    torch.testing.assert_close(make()(features()), make()(features() * 100))


def test_initial_values_are_those_of_nn_linear_for_the_same_stream():
    with torch.random.fork_rng():
        torch.set_rng_state(torch_generator(4, "head").get_state())
        reference = nn.Linear(16, 5)
    head = make(seed=4)
    torch.testing.assert_close(head.linear.weight, reference.weight)
    torch.testing.assert_close(head.linear.bias, reference.bias)


def test_global_random_state_is_untouched():
    before = torch.get_rng_state()
    make()
    assert torch.equal(torch.get_rng_state(), before)
