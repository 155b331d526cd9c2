"""Cross-entropy: by hand, against a loop, its view, and the turns of a 2 x 2 image."""

import math

import pytest
import torch
from loss_oracle import cross_entropy
from small_objectives import N_CLASSES, backbone, create, images, labels, normal, photos

from rayfs.datasets.augmentation import Augmentation, apply_views, draw_views, normalize
from rayfs.randomness import torch_generator
from rayfs.training.objectives.cross_entropy.loss import CrossEntropy, rotated_labels


def outcome(logits: torch.Tensor, chosen: torch.Tensor, name: str = "cross-entropy"):
    return create(name).loss({"classifier": logits}, {}, chosen, torch.arange(len(chosen)), None)


def test_cross_entropy_worked_by_hand():
    # -ln(3/4) and -ln(1/4), on average 0.836988; the second image is taken for the first class.
    logits = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), 0.0]])
    result = outcome(logits, torch.tensor([0, 1]))
    assert result.loss.item() == pytest.approx(0.836988, abs=1e-6)
    assert result.parts["ce"].item() == pytest.approx(0.836988, abs=1e-6)
    assert result.accuracy.item() == 0.5


def test_loss_equals_a_loop_over_images_and_classes():
    logits = normal(7, N_CLASSES, stream="logits").double()
    assert outcome(logits, labels(7)).loss.item() == pytest.approx(cross_entropy(logits, labels(7).tolist()), rel=1e-12)


def test_view_is_the_normalised_augmented_image():
    benchmark = photos()
    draws = draw_views(4, benchmark.augmentation, torch_generator(0, "views"))
    expected = normalize(apply_views(images(4), benchmark.augmentation, draws), benchmark.mean, benchmark.std)
    assert torch.equal(create("cross-entropy").views(images(4), draws), expected)


def test_turns_of_a_small_image_by_hand():
    plain = photos(Augmentation(), size=2)
    objective = CrossEntropy(backbone(), plain, 10, True, generator=torch_generator(0, "head"))
    draws = objective.draw(torch.tensor([0]), torch_generator(0, "views"))
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)[None, :, :, None].expand(1, 2, 2, 3)
    red = (objective.views(image, draws)[:, 0] * plain.std[0] + plain.mean[0]) * 255
    assert red.round().tolist() == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]


def test_every_turn_of_a_class_is_another_class():
    assert rotated_labels(torch.tensor([2, 0]), n_classes=10).tolist() == [2, 0, 12, 10, 22, 20, 32, 30]


def test_loss_with_rotations_equals_a_loop():
    logits, chosen = normal(12, 4 * N_CLASSES, stream="logits"), torch.tensor([1, 0, 1])
    expected = cross_entropy(logits, [1, 0, 1, 6, 5, 6, 11, 10, 11, 16, 15, 16])
    assert outcome(logits, chosen, "rotations").loss.item() == pytest.approx(expected, rel=1e-6)
