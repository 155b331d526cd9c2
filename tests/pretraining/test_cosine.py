"""The cosine head and its objective: by hand, against loops, at zero, and the learnable scale."""

import math

import pytest
import torch
from loss_oracle import cosine, cross_entropy, rows
from small_objectives import N_CLASSES, WIDTH, create, labels, normal

from rayfs.backbones.heads import CosineHead
from rayfs.randomness import torch_generator


def make(seed: int = 0, scale: float = 16.0) -> CosineHead:
    return CosineHead(WIDTH, N_CLASSES, scale, generator=torch_generator(seed, "head"))


def test_logits_worked_by_hand():
    head = CosineHead(2, 3, 10.0, generator=torch_generator(0, "head"))
    head.weight.data = torch.tensor([[2.0, 0.0], [0.0, -0.5], [3.0, 4.0]])
    torch.testing.assert_close(head(torch.tensor([[0.6, 0.8]])), torch.tensor([[6.0, -8.0, 10.0]]))


def test_logits_equal_a_loop_over_images_and_classes():
    head, features = make(), normal(7, WIDTH, stream="features")
    expected = [[16 * cosine(z, w, 0.0) for w in rows(head.weight)] for z in rows(features)]
    torch.testing.assert_close(head(features), torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_length_of_features_and_of_classes_does_not_matter():
    head, features = make(), normal(7, WIDTH, stream="features")
    before = head(features)
    head.weight.data *= torch.arange(1.0, 1 + N_CLASSES)[:, None]
    torch.testing.assert_close(head(100 * features), before)


def test_zero_features_and_zero_classes_give_zero_and_a_finite_gradient():
    head, features = make(), torch.zeros(2, WIDTH, requires_grad=True)
    head.weight.data[1] = 0
    logits = head(torch.cat([features, normal(1, WIDTH, stream="features")]))
    logits.sum().backward()
    assert not logits[:2].any() and not logits[:, 1].any()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (features, *head.parameters()))


def test_scale_is_learnt_and_starts_where_it_was_told_to():
    head = make(scale=16)
    assert [name for name, _ in head.named_parameters()] == ["weight", "scale"]
    assert head.scale.item() == 16 and head.scale.dtype == torch.float32
    head(normal(7, WIDTH, stream="features")).square().sum().backward()
    assert head.scale.grad is not None and head.scale.grad.item() > 0


def test_initial_values_are_those_of_a_linear_layer_and_of_the_seed_alone():
    before = torch.get_rng_state()
    assert torch.equal(make().weight, make().weight)
    assert not torch.equal(make().weight, make(seed=1).weight)
    assert make().weight.abs().max() <= WIDTH**-0.5
    assert torch.equal(torch.get_rng_state(), before)


def test_loss_worked_by_hand():
    # Two classes with logits (ln 3, 0): -ln(3/4) = 0.287682.
    result = create("cosine").loss(
        {"classifier": torch.tensor([[math.log(3.0), 0.0]])}, {}, torch.tensor([0]), torch.tensor([0]), None
    )
    assert result.loss.item() == result.parts["ce"].item() == pytest.approx(0.287682, abs=1e-6)
    assert result.accuracy.item() == 1


def test_loss_of_the_networks_equals_a_loop():
    objective = create("cosine")
    outputs = objective.networks.eval()(normal(6, 3, 16, 16, stream="views"))
    head = objective.networks.heads["classifier"]
    logits = torch.tensor([[16 * cosine(z, w, 0.0) for w in rows(head.weight)] for z in rows(outputs["features"])])
    result = objective.loss(outputs, {}, labels(6), torch.arange(6), None)
    assert result.loss.item() == pytest.approx(cross_entropy(logits, labels(6).tolist()), rel=1e-5)
