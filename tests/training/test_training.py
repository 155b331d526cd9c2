"""The training loop: what one epoch sees and does, one process or two, whole or stopped and gone on with."""

import copy
import itertools
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
import torch.nn.functional as F
from pretended_gpu import is_pretended
from torch import nn

from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.regularisation import DropBlock, generators
from rayfs.backbones.resnet12 import ResNet12
from rayfs.backbones.state import state_hash
from rayfs.datasets.augmentation import apply_views, draw_views, normalize, plain_view
from rayfs.datasets.image_table import open_table
from rayfs.engine.features import embed
from rayfs.errors import InputError
from rayfs.randomness import torch_generator
from rayfs.training.accuracies import few_shot_accuracy, validation_protocol
from rayfs.training.config import PretrainConfig, TrainingConfig
from rayfs.training.learner import Step
from rayfs.training.loop import Trainer
from rayfs.training.objectives.cross_entropy import CrossEntropySettings
from rayfs.training.parts import Given, Parts
from rayfs.training.resolve import resolve
from rayfs.training.team import Team
from rayfs.training.training_state import TrainingState, read_state, write_state
from rayfs.training.validation import FewShotAccuracy

CPU = torch.device("cpu")
CONFIG = resolve(PretrainConfig(epochs=4, batch=24, validation_n_way=3, validation_episodes=3), "characters")
SELF_SUPERVISED = resolve(
    PretrainConfig(
        objective="ier-gen0", epochs=4, batch=32, validation_n_way=3, validation_episodes=3, settings={"negatives": 20}
    ),
    "characters",
)


def make_trainer(
    benchmark, base, config: TrainingConfig = CONFIG, backbone=None, team: Team | None = None,
    device: torch.device = CPU,
) -> Trainer:  # fmt: skip
    given = Given(
        config=config, backbone=backbone or Conv4(1, width=8, generator=torch_generator(0, "weights")), base=base,
        benchmark=benchmark, device=device, team=team or Team(),
    )  # fmt: skip
    return Trainer(config.definition.parts(given), config, device, given.team)


def networks_hash(trainer: Trainer) -> str:
    return state_hash(trainer.networks)


def validate(trainer: Trainer, benchmark, validation, device: torch.device = CPU) -> np.ndarray:
    measured = FewShotAccuracy(config=trainer.config, benchmark=benchmark, table=validation)
    return measured.scores(trainer.networks.eval(), device)


@pytest.mark.parametrize("rotations", [False, True])
def test_epoch_equals_a_loop_with_the_update_by_hand(benchmark, base, rotations):
    """Views, order and initial weights come from the named streams; the update is the test's own."""
    config = replace(CONFIG, settings=CrossEntropySettings(rotations=rotations), weight_decay=0.01)
    trainer = make_trainer(benchmark, base, config)
    trained = nn.Sequential(trainer.networks.backbone, trainer.networks.heads["classifier"])
    network = copy.deepcopy(trained).double().train()
    assert network[1].out_features == (32 if rotations else 8)
    loss, accuracy, parts = trainer.train_epoch(1, lambda: None)

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
    assert loss == parts["ce"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert accuracy == pytest.approx(np.mean(right), abs=2 / len(right))
    for name, parameter in trained.named_parameters():
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


@pytest.mark.parametrize("config", [CONFIG, SELF_SUPERVISED], ids=["cross-entropy", "ier-gen0"])
@pytest.mark.parametrize("share", [0.25, 0.0], ids=["resident", "streamed"])
def test_gpu_trains_and_validates(share, config, gpu, benchmark, base, validation, monkeypatch):
    monkeypatch.setattr("rayfs.engine.row_input.RESIDENT_SHARE", share)
    there, here = (make_trainer(benchmark, base, config, device=device) for device in (gpu, CPU))
    loss, accuracy, _ = there.train_epoch(1, lambda: None)
    assert np.isfinite(loss) and 0 <= accuracy <= 1
    found = validate(there, benchmark, validation, gpu)
    assert found.shape == (3,) and ((found >= 0) & (found <= 1)).all()
    if is_pretended():
        assert (loss, accuracy) == pytest.approx(here.train_epoch(1, lambda: None)[:2], rel=1e-4)


def test_each_epoch_has_its_rate(benchmark, base):
    trainer = make_trainer(benchmark, base)
    for epoch, rate in ((1, 0.05), (3, 0.005), (4, 0.00005)):
        trainer.train_epoch(epoch, lambda: None)
        assert [group["lr"] for group in trainer._optimiser.param_groups] == pytest.approx([rate])


def test_loss_that_is_not_finite_stops_at_once_and_names_step_and_images(benchmark, base):
    trainer, steps = make_trainer(benchmark, base), []

    def poison_after_two() -> None:
        steps.append(1)
        if len(steps) == 2:
            trainer.networks.heads["classifier"].weight.data.fill_(float("inf"))

    order = torch.randperm(160, generator=torch_generator(0, "order", 2)).tolist()
    with pytest.raises(InputError) as stopped:
        trainer.train_epoch(2, poison_after_two)
    assert str(stopped.value) == (
        "the loss of epoch 2, step 3 of 6, is nan; the step's images are the rows "
        f"{', '.join(map(str, order[48:72]))} of the base table. Finished epochs are kept. Lower --lr (it is 0.05), or "
        "look at those images"
    )
    assert len(steps) == 2


def test_weights_that_the_last_step_broke_are_refused_before_validation_meets_them(benchmark, base):
    trainer, steps = make_trainer(benchmark, base), []

    def poison_after_the_last() -> None:
        steps.append(1)
        if len(steps) == 6:
            trainer.networks.backbone.layer1[0].weight.data[0] = float("nan")

    with pytest.raises(InputError, match=r"the weights after epoch 1, step 6 of 6, are not finite; the step's images"):
        trainer.train_epoch(1, poison_after_the_last)


def test_features_that_are_not_finite_are_refused(benchmark, base, validation):
    trainer = make_trainer(benchmark, base)
    trainer.networks.backbone.layer4[1].weight.data.fill_(float("inf"))
    with pytest.raises(InputError, match=r"the features of 120 of 120 validation images are not finite; lower --lr"):
        validate(trainer, benchmark, validation)


def test_seed_alone_decides_the_weights(benchmark, base):
    def trained(seed: int) -> str:
        trainer = make_trainer(benchmark, base, replace(CONFIG, seed=seed))
        trainer.train_epoch(1, lambda: None)
        return networks_hash(trainer)

    assert trained(0) == trained(0) != trained(1)


def test_training_leaves_the_global_random_state_as_it_was(benchmark, base):
    before = torch.get_rng_state()
    make_trainer(benchmark, base).train_epoch(1, lambda: None)
    assert torch.equal(torch.get_rng_state(), before)


def test_bf16_trains_in_bf16_and_keeps_float32_weights(benchmark, base):
    trainers = [
        make_trainer(benchmark, base, replace(CONFIG, precision=precision)) for precision in ("float32", "bf16")
    ]
    seen = []
    trainers[1].networks.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    losses = [trainer.train_epoch(1, lambda: None)[0] for trainer in trainers]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in trainers[1].networks.parameters()} == {torch.float32}


@pytest.mark.parametrize("config", [CONFIG, SELF_SUPERVISED], ids=["cross-entropy", "ier-gen0"])
@pytest.mark.parametrize("name", ["conv4", "resnet12"])
def test_training_that_stopped_goes_on_to_the_same_weights(benchmark, base, tmp_path, config, name):
    """Momentum, memory bank, DropBlock's ramp and dropout's noise included; the state goes through its file."""

    def fresh() -> Trainer:
        generator = torch_generator(0, "weights")
        wide = {"conv4": lambda: Conv4(1, width=8, generator=generator)}
        thin = {"resnet12": lambda: ResNet12(1, (4, 4, 4, 8), dropblock_size=1, generator=generator)}
        return make_trainer(benchmark, base, config, (wide | thin)[name]())

    whole = fresh()
    for epoch in (1, 2, 3):
        whole.train_epoch(epoch, lambda: None)

    stopped = fresh()
    for epoch in (1, 2):
        stopped.train_epoch(epoch, lambda: None)
    state = TrainingState(identity={}, curve=[], tensors=stopped.state(), best={})
    write_state(tmp_path / "a.training", state)
    resumed = fresh()
    resumed.load_state(read_state(tmp_path / "a.training").tensors)
    resumed.train_epoch(3, lambda: None)

    assert networks_hash(resumed) == networks_hash(whole) != networks_hash(stopped)
    assert resumed.state().keys() == whole.state().keys()
    assert all(torch.equal(tensor, resumed.state()[key]) for key, tensor in whole.state().items())


def test_momentum_is_part_of_the_state(benchmark, base):
    """Without it the resumed training of the test above would still look right for one step."""
    trainer = make_trainer(benchmark, base)
    trainer.train_epoch(1, lambda: None)
    names = {name for name, _ in trainer.networks.named_parameters()}
    assert {key.removeprefix("momentum/") for key in trainer.state() if key.startswith("momentum/")} == names


def test_two_workers_share_a_batch_and_take_the_mean_gradient(benchmark, base, tmp_path):
    """Against one process that makes the mean of the two halves' gradients by hand (batch norm sees halves)."""
    config = replace(CONFIG, batch=20, momentum=0.0, weight_decay=0.0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(
        be_a_worker, (port, benchmark_parts(benchmark), base.path.parents[1], base.fingerprint, config, tmp_path),
        nprocs=2,
    )  # fmt: skip
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert found[0]["loss"] == found[1]["loss"]

    trainer = make_trainer(benchmark, base, config)
    networks, objective = trainer.networks.train(), trainer.learner.objective
    views, losses = torch_generator(0, "views", 1), []
    for rows in torch.randperm(160, generator=torch_generator(0, "order", 1)).split(20):
        draws, gradients = objective.draw(rows, views), []
        running = copy.deepcopy(networks.state_dict())
        for half in (slice(10, 20), slice(0, 10)):  # the first worker's running statistics are the ones that stay
            networks.load_state_dict({**networks.state_dict(), **{k: v for k, v in running.items() if "running" in k}})
            labels = torch.from_numpy(base.labels[rows[half]])
            x = objective.views(base.take(rows[half].numpy()), draws.part(half))
            outcome = objective.loss(networks(x), {}, labels, rows[half], draws.part(half))
            gradients.append(torch.autograd.grad(outcome.loss, list(networks.parameters())))
            losses.append(outcome.loss.item())
        for parameter, first, second in zip(networks.parameters(), *gradients, strict=True):
            parameter.data -= 0.05 * (first + second) / 2
    assert found[0]["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    for name, parameter in networks.named_parameters():
        for rank in (0, 1):
            torch.testing.assert_close(found[rank][name], parameter.data, atol=2e-4, rtol=1e-3, msg=name)


def benchmark_parts(benchmark) -> dict:
    """Return what of a benchmark can be pickled: all but the functions that open its images."""
    return {
        name: getattr(benchmark, name) for name in ("name", "image_size", "channels", "mean", "std", "augmentation")
    }


def be_a_worker(
    rank: int, port: int, parts: dict, cache_dir: Path, fingerprint: str, config: TrainingConfig, out: Path
) -> None:
    from rayfs.datasets.registry import Benchmark

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    team = Team.of_this_process()
    assert team == Team(rank=rank, size=2)
    trainer = make_trainer(Benchmark(**parts, sources={}), open_table(cache_dir, fingerprint), config, team=team)
    loss, _, _ = trainer.train_epoch(1, lambda: None)
    weights = {name: parameter.data for name, parameter in trainer.networks.named_parameters()}
    torch.save({**weights, "loss": loss}, out / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_batch_that_cannot_be_shared_evenly_is_refused(benchmark, base):
    with pytest.raises(InputError, match="a batch of 24 images cannot be shared evenly by 5 workers"):
        make_trainer(benchmark, base, team=Team(rank=0, size=5))


def test_validation_is_the_accuracy_of_the_frozen_features_of_plain_images(benchmark, base, validation):
    trainer = make_trainer(benchmark, base)
    backbone = trainer.networks.backbone.eval()
    before = state_hash(backbone)
    found = validate(trainer, benchmark, validation)
    images = validation.take(np.arange(len(validation)))
    features = embed(backbone, images, lambda x: normalize(plain_view(x), benchmark.mean, benchmark.std), CPU)
    expected = few_shot_accuracy(features.numpy(), validation, validation_protocol(CONFIG, validation), 3)
    assert found.tolist() == expected.tolist() == validate(trainer, benchmark, validation).tolist()
    assert state_hash(backbone) == before


def test_epoch_after_a_validation_trains_with_batch_statistics_again(benchmark, base):
    trainer = make_trainer(benchmark, base)
    trainer.networks.backbone.eval()
    trainer.train_epoch(1, lambda: None)
    assert trainer.networks.backbone.layer1[1].num_batches_tracked == trainer.steps_per_epoch


def test_head_learns_at_its_own_rate_which_falls_with_the_schedule(benchmark, base):
    """One step of plain SGD at epoch 3 of 4, from the same gradients: 1/10 of the first rate, for both."""
    steps = {}
    for head_lr in (None, 0.4):
        config = replace(CONFIG, head_lr=head_lr, lr_decay=0.1, decay_at=(0.5,), momentum=0.0, weight_decay=0.0)
        trainer = make_trainer(benchmark, base, config)
        before = copy.deepcopy(dict(trainer.networks.named_parameters()))
        units_TU = torch.arange(24)[None]
        trainer._start_epoch(3, units_TU)
        trainer._step(Step(epoch=3, index=0, units_U=units_TU[0], mine=slice(0, 24)))
        after = dict(trainer.networks.named_parameters())
        steps[head_lr] = {name: after[name].detach() - before[name].detach() for name in before}
    for name, step in steps[None].items():
        factor = 0.4 / 0.05 if name.startswith("heads.") else 1.0
        torch.testing.assert_close(steps[0.4][name], factor * step, rtol=1e-3, atol=1e-7)
        assert step.abs().max() > 0


# Dropout


def thin_resnet() -> ResNet12:
    return ResNet12(1, (4, 4, 4, 8), dropblock_size=1, generator=torch_generator(0, "weights"))


def counted(trainer: Trainer, epochs: list[int]) -> list[int]:
    """Train, and return what DropBlock's ramp counted after every forward pass."""
    (block, *_) = [module for module in trainer.networks.modules() if isinstance(module, DropBlock)]
    counts: list[int] = []
    hook = block.register_forward_hook(lambda module, inputs, output: counts.append(int(module.n_forwards)))
    for epoch in epochs:
        trainer.train_epoch(epoch, lambda: None)
    hook.remove()
    return counts


def test_ramp_of_dropblock_counts_the_steps_of_all_epochs(benchmark, base):
    """160 images in batches of 24 are 6 steps an epoch; one that resumes at epoch 3 has 12 behind it."""
    assert counted(make_trainer(benchmark, base, backbone=thin_resnet()), [1, 2, 3]) == list(range(1, 19))
    assert counted(make_trainer(benchmark, base, backbone=thin_resnet()), [3]) == list(range(13, 19))


def dropout_noise(benchmark, base, rank: int, epochs: list[int]) -> torch.Tensor:
    """Return what worker `rank` of two draws at the start of the last of `epochs`, having started all of them."""
    alone = make_trainer(benchmark, base, backbone=thin_resnet())
    parts = Parts(source=alone.source, learner=alone.learner)
    trainer = Trainer(parts, CONFIG, CPU, Team(rank=rank, size=2))
    for epoch in epochs:
        trainer._start_epoch(epoch, trainer.source.epoch(epoch))
    (generator,) = generators(trainer.networks)
    return torch.rand(64, generator=generator)


def test_every_worker_draws_dropout_of_its_own_and_again_when_resumed(benchmark, base):
    drawn = {(rank, epoch): dropout_noise(benchmark, base, rank, [epoch]) for rank in (0, 1) for epoch in (1, 2)}
    for one, other in itertools.combinations(drawn, 2):
        assert not torch.equal(drawn[one], drawn[other]), (one, other)
    for rank in (0, 1):
        assert torch.equal(drawn[rank, 2], dropout_noise(benchmark, base, rank, [1, 2]))


# An objective that changes with the epoch


def test_objective_that_wants_to_know_is_told_the_epoch_before_its_first_step(benchmark, base):
    trainer, told = make_trainer(benchmark, base), []
    learner = trainer.learner

    class Decaying:
        """An objective with one method more."""

        def __getattr__(self, name: str):
            return getattr(objective, name)

        def start_epoch(self, epoch: int) -> None:
            told.append(epoch)

        def loss(self, *given):
            outcome = objective.loss(*given)
            return replace(outcome, loss=outcome.loss / told[-1])

    objective, learner.objective = learner.objective, Decaying()
    loss, _, parts = trainer.train_epoch(4, lambda: None)
    assert told == [4] and loss == pytest.approx(parts["ce"] / 4)
