"""Settings of embedding learning: the released defaults and what is refused."""

import pytest

from rayfs.errors import InputError
from rayfs.pretraining.config import PretrainConfig
from rayfs.pretraining.train import learning_rate


def test_defaults_are_those_of_rfs():
    config = PretrainConfig()
    assert (config.epochs, config.batch, config.lr, config.lr_decay) == (90, 64, 0.05, 0.1)
    assert (config.momentum, config.weight_decay, config.rotations) == (0.9, 5e-4, False)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(1, 0.05), (45, 0.05), (46, 0.005), (60, 0.005), (61, 0.0005), (75, 0.0005), (76, 0.00005), (90, 0.00005)],
)
def test_rate_falls_after_epochs_45_60_and_75_of_90(epoch, rate):
    assert learning_rate(PretrainConfig(), epoch) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("epochs", "rates"),
    [
        (1, [0.05]),
        (2, [0.05, 0.0005]),
        (6, [0.05, 0.05, 0.05, 0.005, 0.0005, 0.00005]),
    ],
)
def test_short_trainings_start_at_the_full_rate(epochs, rates):
    config = PretrainConfig(epochs=epochs)
    assert [learning_rate(config, epoch) for epoch in range(1, epochs + 1)] == pytest.approx(rates)


def test_rate_without_decay_points_is_constant():
    assert learning_rate(PretrainConfig(decay_at=()), 90) == 0.05


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("objective", "triplet", "--objective is 'triplet'; expected one of cross-entropy"),
        ("epochs", 0, "--epochs is 0; expected at least 1"),
        ("batch", 0, "--batch is 0; expected at least 1"),
        ("validation_n_way", 1, "--validation-n-way is 1; expected at least 2"),
        ("validation_n_shot", 0, "--validation-n-shot is 0; expected at least 1"),
        ("validation_episodes", 1, "--validation-episodes is 1; expected at least 2"),
        ("lr", 0.0, "--lr is 0.0; expected a positive number"),
        ("lr", float("nan"), "--lr is nan; expected a positive number"),
        ("lr", float("inf"), "--lr is inf; expected a positive number"),
        ("lr_decay", -0.1, "--lr-decay is -0.1; expected a positive number"),
        ("momentum", 1.0, "--momentum is 1.0; expected 0 or more, and less than 1"),
        ("weight_decay", -1.0, "--weight-decay is -1.0; expected zero or a positive number"),
        ("decay_at", (0.5, 60), "--decay-at is (0.5, 60); expected shares of the epochs, above 0 and up to 1"),
    ],
)
def test_impossible_setting_is_refused(field, value, message):
    with pytest.raises(InputError) as refusal:
        PretrainConfig(**{field: value})
    assert str(refusal.value) == message
