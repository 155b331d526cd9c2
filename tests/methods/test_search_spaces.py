"""Spaces, points of them as a pure function, and the methods that points become."""

import math
from dataclasses import replace

import pytest

from rayfs.errors import InputError
from rayfs.methods import registry
from rayfs.methods.search_spaces import (
    Variants,
    chosen_spaces,
    grid_settings,
    held_settings,
    parse_space,
    random_settings,
    rounded,
)
from rayfs.methods.spaces import Choice, Range
from rayfs.methods.variants import method_settings, parse_variant

CIFAR = Variants(method="label-halluc", benchmark="cifar-fs", n_way=5, n_shot=5, recipe="fast")


@pytest.mark.parametrize(
    ("space", "share", "value"),
    [
        (Range(low=0.01, high=1.0, log=True), 0.0, 0.01),
        (Range(low=0.01, high=1.0, log=True), 0.5, 0.1),
        (Range(low=0.01, high=1.0, log=True), 1.0, 1.0),
        (Range(low=0.5, high=0.9), 0.25, 0.6),
        (Range(low=0.0, high=1.0), 1 / 3, 0.333),
        (Range(low=50, high=200, log=True, integer=True), 0.5, 100),
        (Range(low=2, high=30, integer=True), 0.999, 30),
        (Choice(values=("a", "b", "c")), 0.34, "b"),
        (Choice(values=("a", "b", "c")), 1.0, "c"),
    ],
)
def test_a_share_of_the_way_through_a_space(space, share, value):
    assert space.at(share) == value and type(space.at(share)) is type(value)


def test_a_point_is_a_pure_function_of_seed_space_and_trial():
    spaces = chosen_spaces("label-halluc", (), ())
    first = [random_settings(spaces, 0, trial) for trial in range(3)]
    assert first[0] == {"lambda_kl": 0.154, "temperature": 1.03, "steps": 39, "lr": 0.0143, "head_lr": 0.327}
    assert [random_settings(spaces, 0, trial) for trial in (2, 0, 1)] == [first[2], first[0], first[1]]
    assert random_settings(spaces, 1, 0) != first[0]


def test_another_space_of_one_setting_leaves_the_others_as_they_were():
    spaces = chosen_spaces("label-halluc", (), ())
    wider = chosen_spaces("label-halluc", (), ("lr=0.0001:1:log",))
    for trial in range(5):
        before, after = random_settings(spaces, 0, trial), random_settings(wider, 0, trial)
        assert before.pop("lr") != after.pop("lr") and before == after


def test_logarithmic_draws_are_as_often_below_as_above_the_geometric_mean():
    space = {"lr": Range(low=0.001, high=1.0, log=True)}
    values = [random_settings(space, 3, trial)["lr"] for trial in range(400)]
    below = sum(value < math.sqrt(0.001) for value in values)
    assert 160 < below < 240 and min(values) >= 0.001 and max(values) <= 1.0  # 4 standard deviations


def test_a_grid_holds_every_combination_once():
    spaces = {"lr": Range(low=0.01, high=1.0, log=True), "schedule": Choice(values=("constant", "linear"))}
    points = grid_settings(spaces, 3)
    assert points[:2] == [{"lr": 0.01, "schedule": "constant"}, {"lr": 0.01, "schedule": "linear"}]
    assert [point["lr"] for point in points] == [0.01, 0.01, 0.1, 0.1, 1.0, 1.0]


def test_a_grid_of_few_integers_has_each_once():
    assert Range(low=1, high=3, integer=True).grid(5) == [1, 2, 3]


@pytest.mark.parametrize("name", registry.names())
def test_both_ends_of_every_space_are_settings_that_the_method_can_have(name):
    variants = Variants(method=name, benchmark="cifar-fs", n_way=5, n_shot=5)
    method = registry.find(name)
    assert method.tuned and set(method.tuned) <= method.search_space.keys() <= method.setting_names
    for setting, space in method.search_space.items():
        for value in space.grid(2):
            assert getattr(variants._resolve({setting: value}), setting) == value


def test_the_name_of_a_trial_is_a_variant_that_the_main_job_takes():
    settings = {"steps": 60, "lr": 0.03, "temperature": 2.5}
    name, config = CIFAR.of(settings)
    assert name == "label-halluc:lr=0.03,steps=60,temperature=2.5"
    assert parse_variant(name) == ("label-halluc", settings)
    assert method_settings(["lr", name], "cifar-fs", 5, 5, {}, "fast")[name] == config


def test_equal_configurations_have_equal_names():
    assert CIFAR.of({}) == CIFAR.of({"temperature": 4.0, "steps": 100}) and CIFAR.of({})[0] == "label-halluc"
    alone = CIFAR.of({"lr": 0.03})
    assert CIFAR.of({"related_classes": 5, "base_subset": "all", "lr": 0.03}) == alone
    with_related = CIFAR.of({"related_classes": 5, "base_subset": "related", "lr": 0.03})[0]
    assert with_related == "label-halluc:base-subset=related,lr=0.03,related-classes=5"


def test_what_is_held_fixed_is_in_every_trial_but_in_no_name():
    held = Variants(**{**vars(CIFAR), "held": {"precision": "bf16"}})
    name, config = held.of({"lr": 0.03})
    assert name == "label-halluc:lr=0.03" and config.precision == "bf16"
    assert held.settings_of(name, ["lr", "steps"]) == {"lr": 0.03, "steps": 100}


def test_settings_held_fixed_are_read_as_those_of_variants():
    assert held_settings("label-halluc", ("steps=50", "base-gradient=head")) == {"steps": 50, "base_gradient": "head"}
    assert held_settings("label-halluc", ()) == {}


def test_what_another_searcher_draws_is_rounded_to_what_is_printed():
    assert rounded({"lr": 0.0123456, "steps": 117, "schedule": "linear"}) == {
        "lr": 0.0123, "steps": 117, "schedule": "linear",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("lr=0.01:0.3:log", ("lr", Range(low=0.01, high=0.3, log=True))),
        ("lr=0.01:0.3", ("lr", Range(low=0.01, high=0.3, log=True))),
        ("lr=0.01:0.3:linear", ("lr", Range(low=0.01, high=0.3))),
        ("steps=50:200", ("steps", Range(low=50, high=200, log=True, integer=True))),
        ("schedule=constant,cosine", ("schedule", Choice(values=("constant", "cosine")))),
        ("frozen-blocks=0:3", ("frozen_blocks", Range(low=0, high=3, integer=True))),
    ],
)
def test_a_space_is_read_from_text(text, space):
    assert parse_space("label-halluc", text) == space


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "expected NAME=LOW:HIGH"),
        ("lr=0.3:0.01", "from 0.3 to 0.01 is none"),
        ("lr=0:1:log", "cannot start at 0"),
        ("lr=0.1:x", "lr is 'x'; expected float"),
        ("lr=0.1:0.2:cubic", "perhaps with ':log'"),
        ("steps=1.5:3", "steps is '1.5'; expected int"),
        ("schedule=constant:cosine", "is a word, not a number"),
        ("schedule=linear", "give at least two values"),
        ("colour=1:2", "'colour=1' is not a setting of label-halluc"),
    ],
)
def test_a_space_that_is_none_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_space("label-halluc", text)


@pytest.mark.parametrize(
    ("tune", "widened", "message"),
    [
        (("colour",), (), "label-halluc has no space of that name; expected some of lambda-kl, temperature"),
        (("lr", "lr"), (), "name each setting once"),
        (("lr",), ("steps=1:5",), "--space of steps changes nothing: --tune leaves it out"),
        ((), ("steps=1:5", "steps=2:6"), "name each setting once"),
    ],
)
def test_spaces_that_contradict_the_search_are_refused(tune, widened, message):
    with pytest.raises(InputError, match=message):
        chosen_spaces("label-halluc", tune, widened)


def test_a_space_that_only_a_flag_names_joins_the_usual_ones():
    spaces = chosen_spaces("label-halluc", (), ("base-fraction=0.1:1",))
    assert list(spaces) == [*registry.find("label-halluc").tuned, "base_fraction"]
    assert list(chosen_spaces("label-halluc", ("lr", "head-lr"), ())) == ["lr", "head_lr"]


def test_a_method_without_spaces_is_searched_by_those_that_are_given(monkeypatch):
    plain = replace(registry.find("nearest-prototype"), name="plain", search_space={}, tuned=())
    monkeypatch.setattr(registry, "METHODS", (plain,))
    with pytest.raises(InputError, match="plain has no spaces of its own; give --space NAME=LOW:HIGH or NAME=A,B,C"):
        chosen_spaces("plain", (), ())
    assert chosen_spaces("plain", (), ("support-views=1:5",)) == {"support_views": Range(low=1, high=5, integer=True)}
