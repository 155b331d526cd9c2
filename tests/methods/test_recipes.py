"""Recipes: the released numbers as a table, overrides, and what a config refuses."""

import pytest

from rayfs.errors import InputError
from rayfs.methods.frozen import FrozenLogisticRegression
from rayfs.methods.label_halluc import LabelHallucination
from rayfs.methods.recipes import (
    BASELINE,
    METHODS,
    FrozenConfig,
    LabelHallucConfig,
    default_protocol,
    label_halluc_config,
    released_steps,
    released_support_views,
)
from rayfs.methods.registry import create_method


@pytest.mark.parametrize(
    ("benchmark", "n_shot", "steps"),
    [
        ("cifar-fs", 5, 307),  # 38,400 base images in batches of 125, 1 epoch
        ("cifar-fs", 1, 921),  # 3 epochs
        ("fc100", 5, 288),  # 36,000 base images, 1 epoch
        ("fc100", 1, 1440),  # 5 epochs
        ("cifar-fs", 10, 307),
        ("cifar-fs", 3, 921),
        ("folder", 5, 300),  # the paper's "about 300"
        ("folder", 1, 300),
    ],
)
def test_released_steps(benchmark, n_shot, steps):
    assert released_steps(benchmark, n_shot) == steps
    assert label_halluc_config(benchmark, 5, n_shot, {}).steps == steps


@pytest.mark.parametrize(
    "n_base, epochs, steps", [(38_400, 1, 307), (38_400, 3, 921), (36_000, 1, 288), (36_000, 5, 1440)]
)
def test_released_steps_are_whole_batches_of_125(n_base, epochs, steps):
    assert n_base // 125 * epochs == steps


@pytest.mark.parametrize(("n_shot", "views"), [(1, 25), (2, 12), (5, 5), (9, 3), (10, 1), (20, 1)])
def test_released_support_views(n_shot, views):
    assert released_support_views(n_shot) == views


@pytest.mark.parametrize(("n_way", "n_shot", "base_batch"), [(5, 5, 125), (5, 1, 125), (10, 5, 250), (20, 10, 200)])
def test_base_batch_is_as_large_as_the_support_batch(n_way, n_shot, base_batch):
    assert label_halluc_config("cifar-fs", n_way, n_shot, {}).base_batch == base_batch


def test_base_batch_follows_given_support_views():
    assert label_halluc_config("cifar-fs", 5, 5, {"support_views": 2}).base_batch == 50
    assert label_halluc_config("cifar-fs", 5, 5, {"support_views": 2, "base_batch": 7}).base_batch == 7


def test_base_batch_follows_the_views_of_a_step_where_they_are_fewer():
    config = label_halluc_config("cifar-fs", 5, 1, {"step_views": 5})
    assert (config.support_views, config.step_views, config.base_batch) == (25, 5, 25)


def test_given_values_win_and_none_means_not_given():
    config = label_halluc_config("omniglot", 10, 1, {"steps": None, "lr": 0.1, "first_conv": "trained"})
    assert (config.steps, config.lr, config.first_conv) == (40, 0.1, "trained")
    assert config == label_halluc_config("omniglot-one-shot", 10, 1, {"lr": 0.1, "first_conv": "trained"})


def test_defaults_are_those_of_the_released_code():
    config = LabelHallucConfig(steps=307, support_views=5, step_views=5, base_batch=125)
    numbers = (config.temperature, config.lambda_kl, config.lambda_ce, config.lr, config.head_lr)
    assert numbers == (4.0, 1.0, 1.0, 0.025, 0.05)
    assert (config.momentum, config.weight_decay, config.c) == (0.9, 5e-4, 1.0)
    words = (config.first_conv, config.head_init, config.batch_norm, config.pseudo_label_view)
    assert words == ("frozen", "random", "joint", "plain")
    assert (config.dropout, config.normalize) == ("on", "on")


def test_protocol_of_an_unknown_benchmark_is_the_literatures():
    assert default_protocol("cifar-fs") == {"n_way": 5, "n_shot": 5, "n_query": 15, "episodes": 600}
    assert default_protocol("omniglot-one-shot")["n_way"] == 20


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        *((name, 0, "at least 1") for name in ("steps", "support_views", "step_views", "base_batch")),
        *((name, 0.0, "a positive number") for name in ("temperature", "lr", "head_lr", "c")),
        *((name, float("nan"), "a positive number") for name in ("temperature", "lr", "head_lr", "c")),
        ("lr", float("inf"), "a positive number"),
        *((name, -1e-3, "zero or a positive number") for name in ("lambda_kl", "lambda_ce", "weight_decay")),
        ("lambda_kl", float("nan"), "zero or a positive number"),
        ("momentum", 1.0, "0 or more, and less than 1"),
        ("momentum", -0.1, "0 or more, and less than 1"),
        ("first_conv", "thawed", "frozen or trained"),
        ("head_init", "zero", "random or logistic-regression"),
        ("batch_norm", "apart", "joint or split"),
        ("pseudo_label_view", "both", "plain or augmented"),
        ("dropout", "0.1", "on or off"),
        ("normalize", "l2", "on or off"),
    ],
)
def test_impossible_setting_is_refused_with_its_name_value_and_what_was_expected(field, value, expected):
    with pytest.raises(InputError) as refusal:
        LabelHallucConfig(**{"steps": 1, "support_views": 1, "step_views": 1, "base_batch": 1, field: value})
    message = str(refusal.value)
    assert message.startswith(f"{field} is ") and str(value) in message and message.endswith(f"expected {expected}")


@pytest.mark.parametrize(("field", "value"), [("support_views", 0), ("c", 0.0), ("c", float("nan"))])
def test_impossible_setting_of_the_baseline_is_refused(field, value):
    with pytest.raises(InputError, match=f"^{field} is {value}; expected "):
        FrozenConfig(**{"support_views": 1, field: value})


@pytest.mark.parametrize("field", ["lambda_kl", "lambda_ce", "weight_decay", "momentum"])
def test_zero_switches_a_term_off(field):
    assert (
        getattr(
            LabelHallucConfig(**{"steps": 1, "support_views": 1, "step_views": 1, "base_batch": 1, field: 0.0}), field
        )
        == 0
    )


def test_each_config_has_its_method_and_the_baseline_comes_first():
    assert METHODS[0] == BASELINE == "lr"
    finetuning = LabelHallucConfig(steps=1, support_views=1, step_views=1, base_batch=1)
    assert isinstance(create_method(FrozenConfig(support_views=1)), FrozenLogisticRegression)
    assert isinstance(create_method(finetuning), LabelHallucination)
    assert create_method(finetuning).config is finetuning
