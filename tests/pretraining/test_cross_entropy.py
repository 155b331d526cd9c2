"""The objective against a loop, and the turns of a 2 x 2 image by hand."""

import math

import pytest
import torch

from rayfs.pretraining.cross_entropy import cross_entropy, rotations_as_classes
from rayfs.randomness import torch_generator


def test_cross_entropy_worked_by_hand():
    # -ln(3/4) and -ln(1/4), on average 0.836988.
    logits = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), 0.0]])
    assert cross_entropy(logits, torch.tensor([0, 1])).item() == pytest.approx(0.836988, abs=1e-6)


def test_cross_entropy_equals_a_loop_over_images_and_classes():
    logits = torch.randn(7, 4, generator=torch_generator(0, "logits"), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 3, 0, 1])
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total -= math.log(math.exp(row[label]) / sum(math.exp(value) for value in row))
    assert cross_entropy(logits, labels).item() == pytest.approx(total / 7, rel=1e-12)


def test_turns_of_a_small_image_by_hand():
    images, labels = rotations_as_classes(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([2]), n_classes=10)
    assert images[:, 0].tolist() == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    assert labels.tolist() == [2, 12, 22, 32]


def test_turns_keep_each_image_beside_its_class():
    draw = torch_generator(0, "images")
    images, labels = torch.rand(3, 2, 5, 5, generator=draw), torch.tensor([1, 0, 1])
    turned, classes = rotations_as_classes(images, labels, n_classes=2)
    assert turned.shape == (12, 2, 5, 5)
    assert classes.tolist() == [1, 0, 1, 3, 2, 3, 5, 4, 5, 7, 6, 7]
    for turn in range(4):
        for i in range(3):
            assert torch.equal(turned[3 * turn + i], torch.rot90(images[i], turn, (1, 2)))
