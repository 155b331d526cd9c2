"""The cosine head, its objective and balanced softmax: by hand, against loops, at zero, and the learnable scale."""

import math

import pytest
import torch
from loss_oracle import cosine, cross_entropy, rows
from small_objectives import COUNTS, N_CLASSES, WIDTH, backbone, create, labels, normal, photos

from rayfs.backbones.heads import CosineHead
from rayfs.randomness import torch_generator
from rayfs.training.objectives.cross_entropy.loss import CrossEntropy


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


def balanced(logits: torch.Tensor, chosen: torch.Tensor):
    return create("balanced-softmax").loss({"classifier": logits}, {}, chosen, torch.arange(len(chosen)), None)


def test_balanced_softmax_worked_by_hand():
    """Equal logits: the probabilities are 9, 5, 3, 2 and 1 of 20, and -ln(1/20) = 2.995732."""
    result = balanced(torch.zeros(1, N_CLASSES), torch.tensor([4]))
    assert result.loss.item() == result.parts["ce"].item() == pytest.approx(2.995732, abs=1e-6)


def test_balanced_softmax_equals_a_loop_over_images_and_classes():
    logits, chosen = normal(7, N_CLASSES, stream="logits"), labels(7)
    total = 0.0
    for row, label in zip(rows(logits), chosen.tolist(), strict=True):
        weights = [count * math.exp(value) for count, value in zip(COUNTS, row, strict=True)]
        total -= math.log(weights[label] / sum(weights))
    assert balanced(logits, chosen).loss.item() == pytest.approx(total / 7, rel=1e-6)


def test_accuracy_of_balanced_softmax_is_that_of_the_logits_without_the_counts():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.1]])  # with the counts, the first class is the largest
    assert balanced(logits, torch.tensor([4])).accuracy.item() == 1


def test_balanced_softmax_of_equal_counts_is_cross_entropy():
    head = {"generator": torch_generator(0, "head"), "log_prior": (math.log(7),) * N_CLASSES}
    objective = CrossEntropy(backbone(), photos(), N_CLASSES, False, **head)
    logits = normal(7, N_CLASSES, stream="logits")
    found = objective.loss({"classifier": logits}, {}, labels(7), torch.arange(7), None).loss.item()
    assert found == pytest.approx(cross_entropy(logits, labels(7).tolist()), rel=1e-6)


@pytest.mark.parametrize(("rotations", "n"), [(True, N_CLASSES), (False, N_CLASSES - 1)])
def test_counts_that_do_not_fit_the_classes_are_refused(rotations, n):
    with pytest.raises(ValueError, match="expected a log_prior of 5 classes and no rotations"):
        CrossEntropy(
            backbone(), photos(), N_CLASSES, rotations, generator=torch_generator(0, "head"), log_prior=(0.0,) * n
        )
