"""The naive recipe beside the engine: the same losses and predictions from the same batches, and what both count."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.regularisation import DropBlock, set_generator
from rayfs.backbones.resnet12 import ResNet12
from rayfs.datasets.augmentation import Augmentation
from rayfs.engine.stages import STAGES, StageClock, timed_by
from rayfs.errors import InputError
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.label_halluc.solve import LabelHallucination
from rayfs.performance.reference.agreement import compare_steps
from rayfs.performance.reference.backbone import PlainDropBlock, plain_copy
from rayfs.performance.reference.flops import forward_flops, step_flops
from rayfs.performance.reference.images import as_pillow, loaded, make_transforms
from rayfs.performance.reference.recipe import Reference, naive_network, refuse_variants, solve_naively
from rayfs.randomness import EpisodeRandomness, torch_generator

CPU = torch.device("cpu")
RANDOMNESS = EpisodeRandomness(seed=7, index=1)
CONFIG = LabelHallucSettings(steps=6, support_views=3, step_views=2, base_batch=16)


def resnet12() -> ResNet12:
    return ResNet12(1, widths=(8, 12, 16, 20), dropblock_size=2, generator=torch_generator(3, "weights"))


def reference_of(world, n_loaders: int = 0) -> Reference:
    return Reference(
        backbone=plain_copy(world.backbone), base=world.bank.table, augmentation=world.augmentation, mean=world.mean,
        std=world.std, device=CPU, n_loaders=n_loaders,
    )  # fmt: skip


@pytest.mark.parametrize("head_init", ["random", "logistic-regression"])
@pytest.mark.parametrize("backbone", [None, resnet12], ids=["conv4", "resnet12"])
def test_engine_and_naive_recipe_agree_step_by_step(characters, make_world, make_task, backbone, head_init):
    world = make_world(characters, backbone and backbone())
    task = make_task(characters, [0, 2, 5], 2, 6)
    first_conv = "trained" if head_init == "random" else "frozen"
    config = replace(CONFIG, head_init=head_init, first_conv=first_conv)
    result = compare_steps(task, world, RANDOMNESS, config)
    assert len(result.naive_losses) == len(result.engine_losses) == 6
    assert result.largest_difference < 2e-5
    assert result.n_same == result.n_queries == 18
    first, last = result.naive_losses[0], result.naive_losses[-1]
    assert abs(first[1] - last[1]) > 1e-4, "the steps moved something"


def test_naive_recipe_solves_an_episode_of_separable_classes(make_blobs, make_task):
    table, world = make_blobs(3)
    task = make_task(table, [0, 1, 2, 3], 3, 5)
    torch.manual_seed(0)
    config = replace(CONFIG, steps=10, head_init="logistic-regression")
    result = solve_naively(task, reference_of(world), config)
    assert result.logits.shape == (20, 4) and len(result.losses) == 10
    assert (result.logits.argmax(1) == torch.arange(4).repeat_interleave(5)).all()


def test_both_sides_spend_their_time_in_the_named_stages(make_blobs, make_task):
    table, world = make_blobs(3)
    task = make_task(table, [0, 1, 2, 3], 3, 5)
    naive, engine = (StageClock(CPU) for _ in range(2))
    before = naive.now()[1]
    with timed_by(naive):
        solve_naively(task, reference_of(world), CONFIG)
    between = naive.now()[1]
    with timed_by(engine):
        LabelHallucination(CONFIG).solve(task, world, RANDOMNESS)
    after = naive.now()[1]
    assert set(naive.wall_s) == set(engine.wall_s) == set(STAGES)
    assert 0.6 * (between - before) < sum(naive.cpu_s.values()) <= between - before
    assert 0.6 * (after - between) < sum(engine.cpu_s.values()) <= after - between


def test_shortened_naive_episode_labels_few_batches_and_counts_its_loaders(characters, make_world, make_task):
    reference = reference_of(make_world(characters), n_loaders=1)
    task = make_task(characters, [0, 1, 2], 1, 2)
    clock = StageClock(CPU, cpu_s=lambda: sum(os.times()[:4]))
    with timed_by(clock):
        result = solve_naively(task, reference, replace(CONFIG, steps=2), n_batches=1)
    assert len(result.losses) == 2 and set(clock.wall_s) == set(STAGES)


@pytest.mark.parametrize("channels", [1, 3])
def test_plain_view_is_the_engines_and_random_views_have_its_mean(make_blobs, channels):
    table, world = make_blobs(channels)
    augmentation = Augmentation(crop_padding=2, jitter=0.4, flip=True)
    random_view, plain_view = make_transforms(augmentation, 16, world.mean, world.std)
    image = table.take(np.array([3]))
    assert torch.allclose(plain_view(as_pillow(image[0])), world.plain(image)[0], atol=1e-6)
    torch.manual_seed(0)
    naive = torch.stack([random_view(as_pillow(image[0])) for _ in range(600)]).mean((0, 2, 3))
    views = replace(world, augmentation=augmentation).views(image.repeat(600, 1, 1, 1), torch_generator(0, "views"))
    assert torch.allclose(naive, views.mean((0, 2, 3)), atol=0.08)


@pytest.mark.parametrize("n_loaders", [0, 2])
def test_loaders_give_every_base_image_once_an_epoch(characters, make_world, n_loaders):
    world = make_world(characters)
    plain_view = make_transforms(world.augmentation, 16, world.mean, world.std)[1]
    with loaded(characters, plain_view, 40, n_loaders, shuffle=True, settled="augmentation") as batches:
        epochs = [torch.cat([next(batches)[1] for _ in range(4)]) for _ in range(2)]
    assert all(epoch.sort().values.tolist() == list(range(160)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_plain_copy_gives_the_features_of_the_backbone_in_both_modes():
    images = torch.randn(4, 3, 32, 32, generator=torch_generator(1, "images"))
    backbone = Conv4(3, width=8, generator=torch_generator(2, "weights"))
    plain = plain_copy(backbone)
    assert plain.state_dict().keys() == backbone.state_dict().keys()
    assert type(plain.layer1) is nn.Sequential
    for mode in (True, False):
        with torch.no_grad():
            assert torch.allclose(plain.train(mode)(images), backbone.train(mode)(images), atol=1e-5)


def test_plain_dropblock_drops_as_much_as_the_engines():
    maps = torch.ones(40, 20, 8, 8)
    engine = DropBlock(0.1, 3)
    engine.n_forwards.fill_(40_000)
    set_generator(engine, torch_generator(0, "dropout"))
    plain = PlainDropBlock(0.1, 3)
    plain.n_forwards = 40_000
    torch.manual_seed(0)
    shares = [(module.train()(maps) == 0).float().mean().item() for module in (engine, plain)]
    assert shares == [pytest.approx(0.1, abs=0.012)] * 2
    assert plain(maps).mean().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(plain.eval()(maps), maps)


def test_released_optimiser_has_a_group_for_each_tensor_but_the_first_convolution():
    backbone = plain_copy(Conv4(3, width=8, generator=torch_generator(2, "weights")))
    network, optimizer = naive_network(backbone, 5, CONFIG)
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    left_out = [name for name, p in network.named_parameters() if id(p) not in moved]
    assert left_out == ["0.layer1.0.weight"]
    assert all(len(group["params"]) == 1 for group in optimizer.param_groups)
    assert [group["lr"] for group in optimizer.param_groups[-2:]] == [0.05, 0.05]


@pytest.mark.parametrize("change", [{"batch_norm": "split"}, {"frozen_blocks": 1}, {"precision": "bf16"}])
def test_settings_that_the_naive_recipe_lacks_are_refused(change):
    refuse_variants(replace(CONFIG, lr=0.1, temperature=2.0, dropout="off"))
    with pytest.raises(InputError, match=next(iter(change))):
        refuse_variants(replace(CONFIG, **change))


def test_operations_of_conv4_are_those_worked_by_hand():
    backbone = Conv4(3, generator=torch_generator(2, "weights"))
    # 2 operations x 9 taps x channels in x 64 filters x pixels of each layer's maps
    layers = [2 * 9 * 3 * 64 * 32**2, 2 * 9 * 64 * 64 * 16**2, 2 * 9 * 64 * 64 * 8**2, 2 * 9 * 64 * 64 * 4**2]
    assert forward_flops(backbone.eval(), 1, (3, 32, 32)) == sum(layers) == 28_311_552
    trained = replace(CONFIG, first_conv="trained")
    # weights' gradients of all, images' gradients of all but the first
    assert step_flops(backbone, 250, (3, 32, 32), trained) == 250 * (3 * sum(layers) - layers[0])
    assert step_flops(backbone, 250, (3, 32, 32), CONFIG) == 250 * (3 * sum(layers) - 2 * layers[0])
