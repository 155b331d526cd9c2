"""The training loop: what one epoch sees and does."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.state import state_hash
from rayfs.benchmarks.augmentation import apply_views, draw_views, normalize, plain_view
from rayfs.engine.features import embed
from rayfs.pretraining.config import PretrainConfig
from rayfs.pretraining.train import Trainer, validate
from rayfs.pretraining.validation import few_shot_accuracy, validation_protocol
from rayfs.randomness import torch_generator

CPU = torch.device("cpu")
CONFIG = PretrainConfig(epochs=4, batch=24, validation_n_way=3, validation_episodes=3)


def make_trainer(benchmark, base, config: PretrainConfig = CONFIG) -> Trainer:
    return Trainer(Conv4(1, width=8, generator=torch_generator(0, "weights")), benchmark, base, config, CPU)


@pytest.mark.parametrize("rotations", [False, True])
def test_epoch_equals_a_loop_with_the_update_by_hand(benchmark, base, rotations):
    """Views, order and initial weights come from the named streams; the update is the test's own."""
    config = replace(CONFIG, rotations=rotations, weight_decay=0.01)
    trainer = make_trainer(benchmark, base, config)
    network = copy.deepcopy(torch.nn.Sequential(trainer.backbone, trainer.head)).double().train()
    assert network[1].linear.out_features == (32 if rotations else 8) and not network[1].normalize
    loss, accuracy = trainer.train_epoch(1, lambda: None)

    views, buffers, losses, right = torch_generator(0, "views", 1), {}, [], []
    order = torch.randperm(160, generator=torch_generator(0, "order", 1)).tolist()
    for start in range(0, 144, 24):
        rows = order[start : start + 24]
        images, labels = torch.from_numpy(np.array(base.images[rows])), base.labels[rows].tolist()
        drawn = draw_views(24, benchmark.augmentation, views)
        x = normalize(apply_views(images, benchmark.augmentation, drawn), benchmark.mean, benchmark.std).double()
        if rotations:
            x = torch.cat([x, *(torch.rot90(x, turn, (2, 3)) for turn in (1, 2, 3))])
            labels = [label + 8 * turn for turn in range(4) for label in labels]
        logits = network(x.contiguous())
        batch_loss = sum(-F.log_softmax(row, 0)[y] for row, y in zip(logits, labels, strict=True)) / len(labels)
        gradients = torch.autograd.grad(batch_loss, list(network.parameters()))
        for (name, parameter), gradient in zip(network.named_parameters(), gradients, strict=True):
            buffers[name] = 0.9 * buffers.get(name, 0) + gradient + 0.01 * parameter.data
            parameter.data -= 0.05 * buffers[name]
        losses.append(batch_loss.item())
        right += [row.argmax().item() == y for row, y in zip(logits, labels, strict=True)]
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert accuracy == pytest.approx(np.mean(right), abs=2 / len(right))
    for name, parameter in torch.nn.Sequential(trainer.backbone, trainer.head).named_parameters():
        # A bias under batch norm has no gradient but rounding noise.
        torch.testing.assert_close(parameter.double(), network.get_parameter(name), atol=2e-4, rtol=1e-3, msg=name)


def test_epoch_counts_whole_batches_only(benchmark, base):
    trainer, steps = make_trainer(benchmark, base), []
    trainer.train_epoch(1, lambda: steps.append(1))
    assert len(steps) == trainer.steps_per_epoch == 160 // 24


def test_base_set_smaller_than_a_batch_is_one_batch(benchmark, base):
    trainer, steps = make_trainer(benchmark, base, replace(CONFIG, batch=500)), []
    trainer.train_epoch(1, lambda: steps.append(1))
    assert len(steps) == 1


def test_loss_falls(benchmark, base):
    trainer = make_trainer(benchmark, base)
    losses = [trainer.train_epoch(epoch, lambda: None)[0] for epoch in (1, 2)]
    assert losses[1] < losses[0] < 1.2 * np.log(8)


def test_each_epoch_has_its_rate(benchmark, base):
    trainer = make_trainer(benchmark, base)
    for epoch, rate in ((1, 0.05), (3, 0.005), (4, 0.00005)):
        trainer.train_epoch(epoch, lambda: None)
        assert [group["lr"] for group in trainer._optimizer.param_groups] == pytest.approx([rate])


def test_loss_that_is_not_finite_stops_the_training(benchmark, base):
    trainer = make_trainer(benchmark, base)
    trainer.head.linear.weight.data.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match=r"the loss of epoch 2 is nan; lower --lr \(it is 0.05\)"):
        trainer.train_epoch(2, lambda: None)


def test_seed_alone_decides_the_weights(benchmark, base):
    def trained(seed: int) -> str:
        trainer = make_trainer(benchmark, base, replace(CONFIG, seed=seed))
        trainer.train_epoch(1, lambda: None)
        return state_hash(trainer.backbone)

    assert trained(0) == trained(0) != trained(1)


def test_training_leaves_the_global_random_state_as_it_was(benchmark, base):
    before = torch.get_rng_state()
    make_trainer(benchmark, base).train_epoch(1, lambda: None)
    assert torch.equal(torch.get_rng_state(), before)


def test_validation_is_the_accuracy_of_the_frozen_features_of_plain_images(benchmark, base, validation):
    backbone = make_trainer(benchmark, base).backbone.eval()
    before = state_hash(backbone)
    found = validate(backbone, benchmark, validation, CONFIG, CPU)
    images = validation.take(np.arange(len(validation)))
    features = embed(backbone, images, lambda x: normalize(plain_view(x), benchmark.mean, benchmark.std), CPU)
    expected = few_shot_accuracy(features.numpy(), validation, validation_protocol(CONFIG, validation), 3)
    assert found.tolist() == expected.tolist() == validate(backbone, benchmark, validation, CONFIG, CPU).tolist()
    assert state_hash(backbone) == before


def test_epoch_after_a_validation_trains_with_batch_statistics_again(benchmark, base):
    trainer = make_trainer(benchmark, base)
    trainer.backbone.eval()
    trainer.train_epoch(1, lambda: None)
    assert trainer.backbone.layer1[1].num_batches_tracked == trainer.steps_per_epoch
