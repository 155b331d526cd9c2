"""Recipes: the released numbers as tables, and which settings go before which."""

from dataclasses import replace
from typing import Any

import pytest

from rayfs.methods import registry
from rayfs.methods.definition import MethodSettings
from rayfs.methods.finetuning.recipe import BENCHMARK_RECIPES, RECIPES, released_steps
from rayfs.methods.finetuning.settings import FinetuneSettings
from rayfs.methods.recipe import default_protocol, released_support_views
from rayfs.methods.registry import BASELINE, create_method
from rayfs.methods.variants import method_settings, resolve

FINETUNING = [method.name for method in registry.METHODS if issubclass(method.settings, FinetuneSettings)]


@pytest.mark.parametrize(
    ("benchmark", "n_shot", "steps"),
    [
        ("cifar-fs", 5, 307),  # 38,400 base images in batches of 125, 1 epoch
        ("cifar-fs", 1, 921),  # 3 epochs
        ("fc100", 5, 288),  # 36,000 base images, 1 epoch
        ("fc100", 1, 1440),  # 5 epochs
        ("cifar-fs", 3, 921),
        ("folder", 5, 300),  # the paper's "about 300"
        ("folder", 1, 300),
    ],
)
def test_released_steps_of_5_way_episodes(benchmark, n_shot, steps):
    assert released_steps(benchmark, 5, n_shot, 125) == steps
    for name in ("label-halluc", "feature-distill"):
        assert resolve(name, benchmark, 5, n_shot, {}).steps == steps


@pytest.mark.parametrize(
    ("benchmark", "n_way", "n_shot", "views", "base_batch", "steps"),
    [
        ("cifar-fs", 10, 5, 5, 250, 306),  # 2 * (38,400 // 250)
        ("fc100", 10, 5, 5, 250, 288),
        ("cifar-fs", 20, 10, 1, 200, 384),
        ("fc100", 20, 10, 1, 200, 360),
        ("folder", 10, 5, 5, 250, 300),
        ("folder", 20, 10, 1, 200, 300),
        ("cifar-fs", 5, 5, 5, 125, 307),
        ("fc100", 5, 1, 25, 125, 1440),
    ],
)
def test_released_settings_of_every_protocol(benchmark, n_way, n_shot, views, base_batch, steps):
    config = resolve("label-halluc", benchmark, n_way, n_shot, {})
    assert (config.support_views, config.step_views) == (views, views)
    assert (config.base_batch, config.steps) == (base_batch, steps)


@pytest.mark.parametrize("benchmark", ["cifar-fs", "fc100", "folder"])
@pytest.mark.parametrize(("n_way", "n_shot"), [(5, 1), (5, 5), (10, 5), (20, 10)])
@pytest.mark.parametrize(("name", "steps"), [("support-only", 300), ("hard-label", 300), ("assoalign", 100)])
def test_ablations_take_the_papers_steps_under_every_protocol(benchmark, n_way, n_shot, name, steps):
    assert resolve(name, benchmark, n_way, n_shot, {}).steps == steps


@pytest.mark.parametrize(
    "n_base, epochs, steps", [(38_400, 1, 307), (38_400, 3, 921), (36_000, 1, 288), (36_000, 5, 1440)]
)
def test_released_steps_are_whole_batches_of_125(n_base, epochs, steps):
    assert n_base // 125 * epochs == steps


@pytest.mark.parametrize(("n_shot", "views"), [(1, 25), (2, 12), (5, 5), (9, 3), (10, 1), (20, 1)])
def test_released_support_views(n_shot, views):
    assert released_support_views(n_shot) == views
    assert all(resolve(name, "cifar-fs", 5, n_shot, {}).support_views == views for name in registry.names())


@pytest.mark.parametrize("name", [name for name in FINETUNING if name != "support-only"])
@pytest.mark.parametrize(("n_way", "n_shot", "base_batch"), [(5, 5, 125), (5, 1, 125), (10, 5, 250), (20, 10, 200)])
def test_base_batch_is_as_large_as_the_support_batch(name, n_way, n_shot, base_batch):
    assert resolve(name, "cifar-fs", n_way, n_shot, {}).base_batch == base_batch


@pytest.mark.parametrize(
    ("given", "views", "step_views", "base_batch"),
    [
        ({"support_views": 2}, 2, 2, 50),
        ({"support_views": 2, "base_batch": 7}, 2, 2, 7),
        ({"step_views": 1}, 5, 1, 25),
        ({"step_views": 1, "support_views": 3}, 3, 1, 25),
    ],
)
def test_base_batch_follows_the_views_of_a_step(given, views, step_views, base_batch):
    config = resolve("label-halluc", "cifar-fs", 5, 5, given)
    assert (config.support_views, config.step_views, config.base_batch) == (views, step_views, base_batch)


def test_many_way_steps_follow_a_given_base_batch():
    assert resolve("label-halluc", "cifar-fs", 10, 5, {"base_batch": 100}).steps == 768
    assert resolve("label-halluc", "cifar-fs", 5, 5, {"base_batch": 100}).steps == 307


def test_protocol_of_an_unknown_benchmark_is_the_literatures():
    assert default_protocol("cifar-fs") == {"n_way": 5, "n_shot": 5, "n_query": 15, "episodes": 600}
    assert default_protocol("omniglot-one-shot")["n_way"] == 20


def test_each_config_has_its_method_and_the_baseline_comes_first():
    assert registry.names()[0] == BASELINE == "logistic-regression"
    kinds = set()
    for name in registry.names():
        config = resolve(name, "cifar-fs", 5, 5, {})
        method = create_method(config)
        assert type(config) is registry.find(name).settings and method.settings is config
        kinds.add(type(method))
    assert len(kinds) == len(registry.names()) == 7


def configs(*specs: str, benchmark: str = "cifar-fs", **given: Any) -> dict[str, MethodSettings]:
    return method_settings(specs, benchmark, 5, 5, given)


def test_plain_methods_have_their_released_settings_under_their_names_in_the_order_asked_for():
    found = configs("label-halluc", "lr", "assoalign")
    assert list(found) == ["label-halluc", "logistic-regression", "assoalign"]
    assert found == {name: resolve(name, "cifar-fs", 5, 5, {}) for name in found}


def test_omniglot_has_settings_of_its_own_for_methods_that_have_such_settings():
    for name in FINETUNING:
        config = resolve(name, "omniglot", 10, 1, {})
        assert (config.steps, config.step_views, config.lr) == (40, 5, 0.1)
        assert (config.head_init, config.support_views) == ("logistic-regression", 25)
        assert config == resolve(name, "omniglot-one-shot", 10, 1, {})
    assert resolve("lr", "omniglot", 10, 1, {}) == resolve("lr", "cifar-fs", 10, 1, {})


@pytest.mark.parametrize(
    ("benchmark", "recipe", "given", "spec", "steps"),
    [
        ("cifar-fs", "released", {}, "label-halluc", 307),
        ("omniglot", "released", {}, "label-halluc", 40),
        ("omniglot", "hasty", {}, "label-halluc", 11),
        ("omniglot", "hasty", {"steps": 22}, "label-halluc", 22),
        ("omniglot", "hasty", {"steps": 22}, "label-halluc:steps=33", 33),
        ("omniglot", "hasty", {}, "label-halluc:steps=33", 33),
        ("omniglot", "released", {"steps": 22}, "label-halluc", 22),
        ("cifar-fs", "hasty", {}, "label-halluc:lr=0.5", 11),
    ],
)
def test_variant_goes_before_flag_before_recipe_before_benchmark(benchmark, recipe, given, spec, steps, monkeypatch):
    monkeypatch.setitem(RECIPES, "hasty", {"steps": 11})
    assert method_settings([spec], benchmark, 5, 5, given, recipe)[spec].steps == steps


@pytest.mark.parametrize("benchmark", ["cifar-fs", "fc100", "folder"])
@pytest.mark.parametrize("n_shot", [1, 5])
@pytest.mark.parametrize("name", FINETUNING)
def test_the_fast_recipe_is_the_same_for_all_methods_and_leaves_the_rest_as_released(name, n_shot, benchmark):
    released, fast = (resolve(name, benchmark, 5, n_shot, {}, recipe) for recipe in ("released", "fast"))
    assert (fast.steps, fast.head_lr, fast.frozen_blocks, fast.frozen_views) == (100, 0.3, 2, 4)
    assert replace(fast, steps=released.steps, head_lr=0.05, frozen_blocks=0, frozen_views=0) == released


def test_what_goes_first_leaves_the_other_settings_as_they_were(monkeypatch):
    monkeypatch.setitem(RECIPES, "hasty", {"steps": 11, "momentum": 0.5, "lr": 0.3})
    monkeypatch.setitem(BENCHMARK_RECIPES, "pictures", {"steps": 9, "momentum": 0.1, "lr": 0.2, "c": 7.0})
    spec = "label-halluc:steps=33"
    config = method_settings([spec], "pictures", 5, 5, {"momentum": 0.7}, "hasty")[spec]
    assert (config.steps, config.momentum, config.lr, config.c) == (33, 0.7, 0.3, 7.0)


def test_a_flag_reaches_every_method_that_has_the_setting_and_no_other():
    found = configs("lr", "label-halluc", "support-only", lr=0.5)
    assert found["label-halluc"].lr == found["support-only"].lr == 0.5
    assert found["logistic-regression"] == resolve("lr", "cifar-fs", 5, 5, {})


def test_a_variant_stands_beside_its_method_and_only_it_has_the_setting():
    found = configs("label-halluc", "label-halluc:base-gradient=head,steps=100", "label-halluc:steps=100")
    assert [config.steps for config in found.values()] == [307, 100, 100]
    assert [config.base_gradient for config in found.values()] == ["both", "head", "both"]
