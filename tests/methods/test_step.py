"""One finetuning step: the network it starts from, and whose batch statistics it keeps."""

import pytest
import torch
from torch import nn

from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.regularisation import DropBlock, Dropout
from rayfs.backbones.resnet12 import ResNet12
from rayfs.engine.distillation import distillation_loss
from rayfs.methods.finetuning.loop import Batch, make_network, make_optimizer, running_statistics_kept, step
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.method import Task
from rayfs.randomness import EpisodeRandomness, torch_generator

RANDOMNESS = EpisodeRandomness(seed=0, index=0)
DRAW = torch_generator(0, "inputs")
BASE_X, SUPPORT_X = torch.randn(6, 1, 16, 16, generator=DRAW), 3 + torch.randn(4, 1, 16, 16, generator=DRAW)


BATCH = Batch(support_x=SUPPORT_X, support_labels=torch.tensor([0, 1, 0, 1]), base_rows=torch.arange(6), base_x=BASE_X)


def base_loss(batch: Batch, features: torch.Tensor, head: nn.Module) -> torch.Tensor:
    return distillation_loss(head(features), torch.zeros(6, 2), 4.0)


def make_config(**changes) -> LabelHallucSettings:
    return LabelHallucSettings(**{"steps": 1, "support_views": 1, "step_views": 1, "base_batch": 6, **changes})


@pytest.fixture
def task(characters, make_task) -> Task:
    return make_task(characters, [0, 1], n_shot=2, n_query=1)


def network_of(backbone: nn.Module, characters, make_world, task: Task, **changes) -> nn.Sequential:
    teacher = torch.arange(2.0 * backbone.n_features).reshape(2, -1), torch.tensor([3.0, -3.0])
    return make_network(task, make_world(characters, backbone), RANDOMNESS, make_config(**changes), teacher)


def conv4() -> nn.Module:
    return Conv4(1, width=4, generator=torch_generator(0, "weights"))


def resnet12() -> nn.Module:
    return ResNet12(1, (4, 4, 4, 6), dropblock_size=2, generator=torch_generator(0, "weights"))


def test_network_is_a_trainable_copy_in_training_mode(characters, make_world, task):
    backbone = conv4()
    network = network_of(backbone, characters, make_world, task, first_conv="trained")
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    shared = {parameter.data_ptr() for parameter in backbone.parameters()}
    assert not shared & {parameter.data_ptr() for parameter in network.parameters()}
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(network[0].state_dict()[name], tensor)


def test_ramp_of_dropblock_starts_anew_in_every_episode(characters, make_world, task):
    backbone = resnet12()
    backbone.layer4[0].regularise.n_forwards.fill_(500)
    network = network_of(backbone, characters, make_world, task)
    assert [m.n_forwards.item() for m in network.modules() if isinstance(m, DropBlock)] == [0, 0]


@pytest.mark.parametrize(("dropout", "rate"), [("on", 0.1), ("off", 0.0)])
def test_dropout_is_the_backbones_or_none(characters, make_world, task, dropout, rate):
    network = network_of(resnet12(), characters, make_world, task, dropout=dropout)
    assert [m.drop_rate for m in network.modules() if isinstance(m, Dropout | DropBlock)] == [rate] * 4


def test_head_starts_at_random_or_from_the_teacher(characters, make_world, task):
    first, again = (network_of(conv4(), characters, make_world, task)[1].linear for _ in range(2))
    assert torch.equal(first.weight, again.weight) and first.weight.abs().max() <= 0.5
    copied = network_of(conv4(), characters, make_world, task, head_init="logistic-regression")[1].linear
    assert copied.weight.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]] and copied.bias.tolist() == [3, -3]


def test_head_that_starts_from_a_classifier_needs_one(characters, make_world, task):
    config = make_config(head_init="logistic-regression")
    with pytest.raises(AssertionError, match="needs one"):
        make_network(task, make_world(characters, conv4()), RANDOMNESS, config, None)


@pytest.mark.parametrize("frozen_blocks", [0, 1, 3])
@pytest.mark.parametrize(("first_conv", "first_trains"), [("frozen", False), ("trained", True)])
def test_what_is_frozen_takes_no_gradient_and_what_is_trained_has_its_own_rate(
    characters, make_world, task, first_conv, first_trains, frozen_blocks
):
    changes = {"first_conv": first_conv, "frozen_blocks": frozen_blocks, "lr": 0.5, "head_lr": 0.25}
    network = network_of(conv4(), characters, make_world, task, **changes)
    backbone, head = network
    layers = [backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4]
    assert [layer.training for layer in layers] == [i >= frozen_blocks for i in range(4)]
    assert all(module.training == layer.training for layer in layers for module in layer.modules())
    for i, layer in enumerate(layers):
        for name, parameter in layer.named_parameters():
            first = i == 0 and name.startswith("0.")
            assert parameter.requires_grad == (i >= frozen_blocks and (first_trains or not first)), name
    body, top = make_optimizer(network, make_config(**changes)).param_groups
    assert (body["lr"], top["lr"], body["momentum"], top["weight_decay"]) == (0.5, 0.25, 0.9, 5e-4)
    assert {id(p) for p in body["params"]} == {id(p) for p in backbone.parameters() if p.requires_grad}
    assert {id(p) for p in top["params"]} == {id(p) for p in head.parameters()}


@pytest.mark.parametrize(("batch_norm", "seen"), [("joint", torch.cat([BASE_X, SUPPORT_X])), ("split", BASE_X)])
def test_running_statistics_come_from_the_whole_batch_or_from_base_images_alone(
    characters, make_world, task, batch_norm, seen
):
    config = make_config(batch_norm=batch_norm)
    network = network_of(conv4(), characters, make_world, task, batch_norm=batch_norm)
    convolution, norm = network[0].layer1[0], network[0].layer1[1]
    before_mean, before_var = norm.running_mean.clone(), norm.running_var.clone()
    with torch.no_grad():
        maps = convolution(seen).transpose(0, 1).flatten(1)
    step(network, make_optimizer(network, config), BATCH, config, base_loss)
    torch.testing.assert_close(norm.running_mean, 0.9 * before_mean + 0.1 * maps.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(norm.running_var, 0.9 * before_var + 0.1 * maps.var(1), atol=1e-5, rtol=1e-4)
    assert norm.num_batches_tracked == 1


def test_step_returns_the_losses_before_the_step(characters, make_world, task):
    config = make_config()
    network = network_of(conv4(), characters, make_world, task)
    optimizer = make_optimizer(network, config)
    losses = [step(network, optimizer, BATCH, config, base_loss, base_weight=0.5) for _ in range(8)]
    assert all(pair.shape == (2,) and not pair.requires_grad for pair in losses)
    assert losses[-1][1] < losses[0][1]


def test_block_uses_batch_statistics_and_moves_no_running_ones():
    norm = nn.BatchNorm2d(1).train()
    with running_statistics_kept(norm):
        out = norm(SUPPORT_X)
    assert abs(out.mean().item()) < 1e-5 and out.std().item() == pytest.approx(1, abs=1e-3)
    assert (norm.running_mean.item(), norm.running_var.item(), norm.num_batches_tracked.item()) == (0, 1, 0)


def test_infinite_images_leave_the_running_statistics_as_they_were():
    norm = nn.BatchNorm2d(1).train()
    with running_statistics_kept(norm):
        norm(SUPPORT_X * float("inf"))
    assert (norm.running_mean.item(), norm.running_var.item()) == (0, 1)


def test_norms_are_as_before_after_the_block_even_after_an_error():
    norms = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1, momentum=None), nn.BatchNorm2d(1, momentum=0.3))
    norms.append(nn.BatchNorm2d(1, track_running_stats=False))
    with pytest.raises(RuntimeError, match="out of memory"), running_statistics_kept(norms):
        raise RuntimeError("out of memory")
    assert [norm.momentum for norm in norms] == [0.1, None, 0.3, 0.1]
    assert [norm.track_running_stats for norm in norms] == [True, True, True, False]
    norms.train()(SUPPORT_X)
    assert norms[0].running_mean.item() == pytest.approx(0.1 * SUPPORT_X.mean().item(), rel=1e-4)
