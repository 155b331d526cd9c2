"""Associative alignment: its centroid loss and arcMax worked by hand, and the modes of its three parts."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from method_tracing import run_and_trace
from torch import nn

import rayfs.methods.assoalign.solve
from rayfs.methods.assoalign import AssoAlignSettings
from rayfs.methods.assoalign.solve import ArcHead, aligned_step, centroid_loss, classification_loss, eval_mode
from rayfs.methods.finetuning.loop import Batch
from rayfs.randomness import EpisodeRandomness, torch_generator

RANDOMNESS = EpisodeRandomness(seed=2, index=0)


def test_centroid_loss_worked_by_hand():
    """Centroids (1, 0) and (0, 2): squared distances 1 and 4 of the base image at (0, 0), 2 and 1 of that at (0, 1)."""
    support, labels = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]]), torch.tensor([0, 1, 0])
    base = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    to_first, to_second = math.log(1 + math.exp(-3)), math.log(1 + math.exp(-1))
    loss = centroid_loss(base, torch.tensor([0, 1]), support, labels)
    assert loss.item() == pytest.approx((to_first + to_second) / 2, rel=1e-5)
    swapped = centroid_loss(base, torch.tensor([1, 0]), support, labels)
    assert swapped.item() == pytest.approx((to_first + 3 + to_second + 1) / 2, rel=1e-5)


def test_base_images_of_a_class_without_a_centroid_count_for_nothing():
    support, labels = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([3, 1])  # no view of classes 0 and 2
    base, related_to = torch.tensor([[0.0, 0.0], [9.0, 9.0], [0.0, 1.0], [5.0, 0.0]]), torch.tensor([3, 0, 1, 2])
    expected = (math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-1))) / 2
    assert centroid_loss(base, related_to, support, labels).item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_any_centroid_in_common_pulls_nothing():
    base, support = torch.randn(3, 2, requires_grad=True), torch.randn(2, 2, requires_grad=True)
    centroid_loss(base, torch.tensor([2, 2, 3]), support, torch.tensor([0, 1])).backward()
    assert not base.grad.any() and not support.grad.any()


def make_head(scale: float = 2.0, margin: float = 0.1) -> ArcHead:
    head = ArcHead(2, 2, scale, margin, generator=torch_generator(0, "head"))
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))
    return head


def test_arc_logits_worked_by_hand():
    """Features at 60 and 20 degrees from the first class; lengths count for nothing."""
    angles = torch.tensor([math.pi / 3, math.pi / 9])
    features = torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([[5.0], [0.1]])
    head = make_head()
    plain = [[2 * math.cos(a), 2 * math.cos(math.pi / 2 - a)] for a in angles.tolist()]
    torch.testing.assert_close(head(features), torch.tensor(plain))
    with_margin = [
        [2 * math.cos(math.pi / 3 + 0.1), plain[0][1]],
        [plain[1][0], 2 * math.cos(math.pi / 2 - math.pi / 9 + 0.1)],
    ]
    torch.testing.assert_close(head.margin_logits(features, torch.tensor([0, 1])), torch.tensor(with_margin))


def test_arc_loss_has_the_margin_and_a_linear_head_none():
    features, labels = torch.tensor([[1.0, 2.0], [2.0, -1.0]]), torch.tensor([1, 0])
    head, linear = make_head(), nn.Linear(2, 2)
    by_hand = nn.functional.cross_entropy(head.margin_logits(features, labels), labels)
    assert classification_loss(head, features, labels) == by_hand
    assert by_hand > nn.functional.cross_entropy(head(features), labels)
    assert classification_loss(linear, features, labels) == nn.functional.cross_entropy(linear(features), labels)


def test_feature_on_a_class_direction_has_a_finite_gradient():
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    classification_loss(make_head(), features, torch.tensor([0, 0])).backward()
    assert features.grad.isfinite().all()


def test_eval_mode_gives_each_module_its_own_mode_back_even_after_an_error():
    network = nn.Sequential(nn.Sequential(nn.BatchNorm2d(1), nn.Dropout()), nn.BatchNorm2d(1), nn.Linear(1, 1)).train()
    network[1].eval()
    network[0][1].eval()
    before = [module.training for module in network.modules()]
    with eval_mode(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == before
    with pytest.raises(RuntimeError, match="out of memory"), eval_mode(network):
        raise RuntimeError("out of memory")
    assert [module.training for module in network.modules()] == before


@pytest.mark.parametrize("frozen_blocks", [0, 2])
def test_frozen_blocks_stay_in_eval_mode_and_all_others_in_training_mode(
    frozen_blocks, characters, make_world, make_task, monkeypatch
):
    modes = []

    def noting(network: nn.Sequential, optimizer, batch: Batch, **settings) -> torch.Tensor:
        losses = aligned_step(network, optimizer, batch, **settings)
        backbone = network[0]
        layers = (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)
        modes.append([{module.training for module in layer.modules()} for layer in layers])
        return losses

    monkeypatch.setattr(rayfs.methods.assoalign.solve, "aligned_step", noting)
    config = AssoAlignSettings(steps=2, support_views=1, step_views=1, base_batch=4, frozen_blocks=frozen_blocks)
    task = make_task(characters, [0, 3], n_shot=2, n_query=2)
    run_and_trace(task, make_world(characters), config, RANDOMNESS, monkeypatch)
    assert modes == [[{i >= frozen_blocks} for i in range(4)]] * 2


def test_each_part_of_a_step_moves_what_it_should(characters, make_world, make_task):
    """The centroid loss moves the backbone alone, the base images the head alone, the support both."""
    moved = []

    class NotingSGD(torch.optim.SGD):
        def step(self, closure=None):
            with_gradient = [any(p.grad is not None for p in group["params"]) for group in self.param_groups]
            moved.append(with_gradient)
            return super().step(closure)

    world = make_world(characters)
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    network = nn.Sequential(network, nn.Linear(4, 2))
    optimizer = NotingSGD([{"params": list(part.parameters())} for part in network], lr=0.1)
    x = world.plain(characters.take(np.arange(6)))
    batch = Batch(support_x=x[:2], support_labels=torch.tensor([0, 1]), base_rows=torch.arange(2, 6), base_x=x[2:])
    labels = torch.tensor([-1, -1, 0, 1, 0, 1])
    for alignment, expected in [
        ("on", [[True, False], [False, True], [True, True]]),
        ("off", [[False, True], [True, True]]),
    ]:
        config = AssoAlignSettings(steps=1, support_views=1, step_views=1, base_batch=4, centroid_alignment=alignment)
        moved.clear()
        losses = partial(aligned_step, settings=config, labels_of_rows=labels)(network, optimizer, batch)
        assert moved == expected and losses.shape == (2,) and not losses.requires_grad
