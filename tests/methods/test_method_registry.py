"""The registry: each method once, found by all its names; what it needs; nothing of it imports torch."""

import ast
import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import pytest

from rayfs.errors import InputError
from rayfs.hashing import stable_hash
from rayfs.methods import registry
from rayfs.methods.definition import MethodDefinition
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.needs import BaseImages, Finetuning, Needs, with_base_batch, with_steps
from rayfs.methods.recipe import Situation
from rayfs.methods.variants import resolve

ROOT = Path(__file__).parents[2] / "rayfs"


def test_every_name_alias_and_class_of_settings_is_of_one_method():
    names = [name for method in registry.METHODS for name in (method.name, *method.aliases)]
    kinds = [method.settings for method in registry.METHODS]
    assert len(set(names)) == len(names) and len(set(kinds)) == len(kinds)
    assert registry.BASELINE in registry.names() and not set(registry.names()) & {"lr"}


@pytest.mark.parametrize("method", registry.METHODS, ids=registry.names())
def test_a_method_is_found_by_its_names_and_its_settings(method):
    settings = resolve(method.name, "cifar-fs", 5, 5, {})
    for name in (method.name, *method.aliases):
        assert registry.find(name) is method and registry.canonical(name) == method.name
    assert registry.method_of(settings) is method and type(settings) is method.settings
    assert type(registry.create_method(settings)).__module__.startswith(
        f"rayfs.methods.{method.settings.__module__[14:]}"
    )


@pytest.mark.parametrize("method", registry.METHODS, ids=registry.names())
def test_help_says_what_a_method_is_in_one_line(method):
    assert 0 < len(method.summary) <= 90 and "\n" not in method.summary and not method.summary.endswith(".")


def test_what_is_no_method_is_refused_by_name_and_by_settings():
    @dataclass(frozen=True)
    class Foreign:
        c: float = 1.0

    with pytest.raises(InputError, match="there is no method 'maml'; expected some of logistic-regression, nearest-"):
        registry.find("maml")
    with pytest.raises(ValueError, match="no method in the registry has settings of the type Foreign"):
        registry.method_of(Foreign())


def test_settings_are_plain_values_so_that_hashes_of_rows_stay():
    for method in registry.METHODS:
        settings = resolve(method.name, "cifar-fs", 5, 5, {})
        assert is_dataclass(settings) and stable_hash(settings) == stable_hash(replace(settings))


@pytest.mark.parametrize(
    ("name", "cifar_fs", "omniglot", "fast", "many_ways"),
    [
        ("logistic-regression", "ed85a8bbe0c40b4d", "a3019fdae5bff36f", "a3019fdae5bff36f", "ee4cc5db2765bc07"),
        ("nearest-prototype", "ca13b547f6299e93", "e7d6d58ab2b990af", "e7d6d58ab2b990af", "604ea7b53acca5b3"),
        ("support-only", "d17828ba4ba42a3f", "d022eccaf019d538", "bc4d138cfa9495c1", "940b103443c6b607"),
        ("hard-label", "2d4586fb04c92519", "3afb53d304377210", "417391daa5e62081", "456896d2b43932e3"),
        ("label-halluc", "a33118d4c56328d8", "08d344e5b4cf581c", "d785abbefa0939d4", "fcb1db55d49ec8c8"),
        ("assoalign", "343f04ac21dfa1f3", "bee9969f968dd2b4", "cb3b43e903a18d70", "dc723a46600bf857"),
        ("feature-distill", "34589b6b170eed14", "a81f1813a21b0bba", "af7bfe6949c58085", "3e3b1b8eccfaecda"),
    ],
)
def test_settings_hash_as_they_did_when_runs_were_written(name, cifar_fs, omniglot, fast, many_ways):
    """A row's hash of its settings is compared when a run resumes: commit 3bb852b gave these."""
    assert stable_hash(resolve(name, "cifar-fs", 5, 5, {})) == cifar_fs
    assert stable_hash(resolve(name, "omniglot", 10, 1, {})) == omniglot
    assert stable_hash(resolve(name, "fc100", 5, 1, {}, "fast")) == fast
    assert stable_hash(resolve(name, "fc100", 20, 10, {})) == many_ways


def needs(name: str, **given) -> Needs:
    return registry.needs_of(resolve(name, "cifar-fs", 5, 5, given))


def test_methods_of_frozen_features_need_nothing():
    assert needs("nearest-prototype") == Needs() and needs("logistic-regression", joint_queries=0) == Needs()
    assert needs("logistic-regression", joint_queries=7) == Needs(set_aside=7)


@pytest.mark.parametrize("name", ["support-only", "hard-label", "label-halluc", "assoalign", "feature-distill"])
def test_methods_that_finetune_say_what_their_steps_are_like(name):
    given = {"steps": 9, "frozen_blocks": 2, "frozen_views": 3, "dropout": "off", "joint_queries": 5}
    found = needs(name, **given)
    expected = Finetuning(steps=9, frozen_blocks=2, kept_views=3, without_dropout=True, replayed=False)
    assert found.finetuning == expected and found.set_aside == 5
    assert needs(name).finetuning == Finetuning(steps=resolve(name, "cifar-fs", 5, 5, {}).steps)
    assert not found.transductive and not found.networks


@pytest.mark.parametrize("name", ["support-only", "hard-label", "label-halluc", "feature-distill"])
@pytest.mark.parametrize(
    ("execution", "replayed"), [("eager", False), ("compiled", False), ("graph", True), ("compiled-graph", True)]
)
def test_steps_are_replayed_where_a_graph_is_asked_for(name, execution, replayed):
    steps = needs(name, execution=execution).finetuning
    assert steps is not None and steps.replayed == replayed


@pytest.mark.parametrize("name", ["hard-label", "label-halluc", "feature-distill"])
def test_methods_with_base_images_say_which(name):
    given = {"base_batch": 20, "base_fraction": 0.5, "base_imbalance": "step", "imbalance_ratio": 4.0}
    reads = name == "feature-distill"
    expected = BaseImages(
        per_step=20, fraction=0.5, imbalance="step", imbalance_ratio=4.0, features_in_steps=reads
    )  # fmt: skip
    assert needs(name, **given).base_images == expected
    assert needs("assoalign", base_batch=20).base_images == BaseImages(per_step=20)
    assert needs("support-only").base_images is None


def test_activations_of_base_images_are_kept_for_methods_that_see_base_images():
    kept = {"frozen_blocks": 2, "frozen_views": 3}
    assert needs("label-halluc", **kept).activations == needs("assoalign", **kept).activations == (2, 3)
    assert needs("label-halluc", frozen_blocks=2).activations is None
    assert needs("support-only", **kept).activations is None and needs("logistic-regression").activations is None


def test_a_plan_shortens_a_method_and_gives_it_fewer_base_images():
    settings = resolve("label-halluc", "cifar-fs", 5, 5, {})
    assert with_steps(settings, 3) == replace(settings, steps=3)
    assert with_base_batch(settings, 8) == replace(settings, base_batch=8)


def test_a_method_without_recipe_needs_and_spaces_is_complete():
    @dataclass(frozen=True, kw_only=True)
    class Plain:
        power: float = 2.0

    method = MethodDefinition(name="plain", summary="plain", settings=Plain, solver="nowhere:Plain")
    situation = Situation(benchmark="cifar-fs", n_way=5, n_shot=1, given={"power": 3.0})
    assert method.resolve(situation) == Plain(power=3.0) and method.needs(Plain()) == Needs()
    assert method.setting_names == {"power"} and method.why_inert(Plain(), "power") is None


def test_what_help_needs_imports_no_torch():
    code = "import sys, rayfs.methods.search_spaces, rayfs.methods.classifiers.registry; "
    code += "print([name for name in ('torch', 'ray', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_other_room_asks_which_class_settings_are():
    """Workers, plans and experiments ask for `Needs`."""
    kinds = {base.__name__ for method in registry.METHODS for base in method.settings.__mro__} - {"object"}
    assert LabelHallucSettings.__name__ in kinds and "FinetuneSettings" in kinds
    for path in ROOT.rglob("*.py"):
        if "methods" in path.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
                named = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
                assert not named & kinds, f"{path}:{node.lineno}"


def test_every_setting_says_what_it_is():
    for method in registry.METHODS:
        documented = set()
        for base in method.settings.__mro__[:-1]:
            body = ast.parse(Path(sys.modules[base.__module__].__file__ or "").read_text()).body
            (tree,) = (node for node in body if isinstance(node, ast.ClassDef) and node.name == base.__name__)
            for field, after in zip(tree.body, tree.body[1:], strict=False):
                is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if isinstance(field, ast.AnnAssign) and is_text:
                    documented.add(getattr(field.target, "id", ""))
        assert {field.name for field in fields(method.settings)} == documented
