"""Schedules: tables of rates, by epoch and by step."""

import pytest

from rayfs.errors import InputError
from rayfs.training.config import PretrainConfig
from rayfs.training.resolve import resolve
from rayfs.training.schedules import Schedule, create_schedule


def schedule(steps_per_epoch: int, **flags) -> Schedule:
    return create_schedule(resolve(PretrainConfig(lr=0.1, **flags), "cifar-fs"), steps_per_epoch)


@pytest.mark.parametrize(
    ("epoch", "step", "expected"),
    [
        (1, 0, 0.1),
        (1, 1, 0.1 * (11 / 12) ** 0.9),
        (1, 3, 0.1 * (9 / 12) ** 0.9),
        (2, 0, 0.1 * (8 / 12) ** 0.9),
        (3, 3, 0.1 * (1 / 12) ** 0.9),
    ],
)
def test_poly_falls_with_every_step_to_zero_after_the_last(epoch, step, expected):
    assert schedule(4, epochs=3, schedule="poly")(epoch, step) == pytest.approx(expected, rel=1e-12)


def test_power_of_poly_is_a_flag():
    assert schedule(2, epochs=2, schedule="poly", poly_power=2.0)(2, 1) == pytest.approx(0.1 / 16)
    with pytest.raises(InputError, match=r"--poly-power is 2\.0 but the schedule is step; drop it, or give --schedule"):
        schedule(2, poly_power=2.0)
    with pytest.raises(InputError, match=r"--poly-power is 0\.0; expected a positive number"):
        schedule(2, schedule="poly", poly_power=0.0)


def test_settings_of_a_published_schedule_do_not_follow_into_another():
    config = resolve(PretrainConfig(objective="skd-gen0", schedule="poly"), "cifar-fs")
    assert (config.lr_decay, config.decay_at, config.poly_power) == (None, None, 0.9)


@pytest.mark.parametrize("name", ["step", "cosine"])
def test_schedules_by_epoch_have_one_rate_an_epoch(name):
    rate = schedule(4, epochs=6, schedule=name)
    for epoch in range(1, 7):
        assert {rate(epoch, step) for step in range(4)} == {rate(epoch, 0)}
    assert rate(6, 0) < rate(1, 0) == 0.1
