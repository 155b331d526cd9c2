"""Variants as `--methods` takes them: how they are read, and everything that is refused, word by word."""

from dataclasses import dataclass
from typing import Any

import pytest

from rayfs.errors import InputError
from rayfs.methods import registry
from rayfs.methods.definition import MethodDefinition, MethodSettings
from rayfs.methods.variants import method_settings, parse_variant, text_of


def configs(*specs: str, **given: Any) -> dict[str, MethodSettings]:
    return method_settings(specs, "cifar-fs", 5, 5, given)


@pytest.mark.parametrize(
    ("spec", "name", "own"),
    [
        ("logistic-regression", "logistic-regression", {}),
        ("lr", "logistic-regression", {}),
        ("lr:c=2", "logistic-regression", {"c": 2.0}),
        ("label-halluc:base-gradient=head,steps=100", "label-halluc", {"base_gradient": "head", "steps": 100}),
        ("label-halluc:base_gradient=head", "label-halluc", {"base_gradient": "head"}),
        ("label-halluc: steps = 100 , lr=1e-3", "label-halluc", {"steps": 100, "lr": 0.001}),
        ("support-only:support-batch=4", "support-only", {"support_batch": 4}),
        (
            "assoalign:classifier-loss=arcmax,arc-margin=0",
            "assoalign",
            {"classifier_loss": "arcmax", "arc_margin": 0.0},
        ),
        ("nearest-prototype:support-views=3", "nearest-prototype", {"support_views": 3}),
    ],
)
def test_a_variant_is_a_method_and_settings_of_their_own_types(spec, name, own):
    assert parse_variant(spec) == (name, own)
    assert [type(value) for value in parse_variant(spec)[1].values()] == [type(value) for value in own.values()]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "maml",
            r"--methods maml: there is no method 'maml'; expected some of logistic-regression, nearest-prototype, ",
        ),
        ("Label-Halluc:steps=3", "there is no method 'Label-Halluc'"),
        ("", "there is no method ''"),
        (":steps=3", "there is no method ''"),
        (
            "lr:steps=3",
            "'steps=3' is not a setting of logistic-regression; expected NAME=VALUE of c, joint-queries, sup",
        ),
        ("support-only:base-batch=3", "'base-batch=3' is not a setting of support-only; expected NAME=VALUE of c, "),
        ("assoalign:base-subset=related", "'base-subset=related' is not a setting of assoalign"),
        ("hard-label:temperature=2", "'temperature=2' is not a setting of hard-label"),
        ("label-halluc:steps", "'steps' is not a setting of label-halluc; expected NAME=VALUE of .*base-gradient, "),
        ("label-halluc:=3", "'=3' is not a setting of label-halluc"),
        ("label-halluc:stepz=3", "'stepz=3' is not a setting of label-halluc"),
        ("label-halluc:", r"no setting follows the colon; write label-halluc:NAME=VALUE, or label-halluc$"),
        ("label-halluc:,", "no setting follows the colon"),
        ("label-halluc:steps=5.0", r"--methods label-halluc:steps=5.0: steps is '5.0'; expected int$"),
        ("label-halluc:base-batch=", "base-batch is ''; expected int"),
        ("label-halluc:support-batch=None", "support-batch is 'None'; expected int"),
        ("label-halluc:head-lr=fast", "head-lr is 'fast'; expected float"),
        (
            "label-halluc:steps=1,lr=0.1,steps=2",
            r"--methods label-halluc:steps=1,lr=0.1,steps=2: 'steps' is given twice",
        ),
        ("label-halluc:base-batch=1,base_batch=2", "'base_batch' is given twice"),
    ],
)
def test_what_cannot_be_read_is_refused(spec, message):
    with pytest.raises(InputError, match=message):
        parse_variant(spec)
    with pytest.raises(InputError, match=message):
        configs("lr", spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("label-halluc:base-gradient=all", "--base-gradient is 'all'; expected one of none, head, backbone, both"),
        ("label-halluc:steps=0", "steps is 0; expected at least 1"),
        ("label-halluc:lr=nan", "lr is nan; expected a positive number"),
        ("assoalign:classifier-loss=arcface", "--classifier-loss is 'arcface'; expected one of softmax, arcmax"),
        (
            "label-halluc:imbalance-ratio=3",
            r"--base-imbalance is 'none' with --imbalance-ratio 3: one without",
        ),
    ],
)
def test_impossible_values_of_a_variant_are_refused(spec, message):
    with pytest.raises(InputError, match=message):
        configs(spec)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ((), "--methods is ''; expected some of logistic-regression, nearest-prototype, .*, each once"),
        (
            ("lr", "label-halluc", "lr"),
            "--methods is 'lr label-halluc lr'; expected some of logistic-regression, .*, each once",
        ),
        (("lr:c=2", "lr:c=2"), "--methods is 'lr:c=2 lr:c=2'; .* each once"),
    ],
)
def test_each_method_is_asked_for_once(specs, message):
    with pytest.raises(InputError, match=message):
        configs(*specs)


@pytest.mark.parametrize(
    ("spec", "given"),
    [
        ("logistic-regression:c=1", {}),
        ("label-halluc:steps=307", {}),
        ("label-halluc:steps=307,base-gradient=both", {}),
        ("label-halluc:steps=20", {"steps": 20}),
        ("support-only:steps=300", {}),
        ("label-halluc:base-batch=125", {}),
    ],
)
def test_a_variant_that_changes_nothing_is_refused(spec, given):
    message = f"^--methods {spec}: these are the settings of {spec.partition(':')[0]} anyway; drop them or change them$"
    with pytest.raises(InputError, match=message):
        configs(spec, **given)


def test_a_variant_that_changes_one_thing_may_say_others_that_it_does_not_change():
    assert configs("label-halluc:steps=307,lr=0.5")["label-halluc:steps=307,lr=0.5"].lr == 0.5
    assert configs("label-halluc:steps=307", steps=20)["label-halluc:steps=307"].steps == 307


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (
            ("lr:c=2", "lr:c=2.0"),
            "^--methods: logistic-regression:c=2.0 has the settings of logistic-regression:c=2; each once$",
        ),
        (
            ("label-halluc:steps=5,lr=0.5", "lr", "label-halluc:lr=0.5,steps=5"),
            "^--methods: label-halluc:lr=0.5,steps=5 has the settings of label-halluc:steps=5,lr=0.5; each once$",
        ),
    ],
)
def test_two_variants_of_equal_settings_are_refused(specs, message):
    with pytest.raises(InputError, match=message):
        configs(*specs)


def test_methods_of_equal_fields_are_not_equal_methods():
    found = configs("lr", "nearest-prototype", "hard-label", "feature-distill:steps=300")
    assert len(found) == 4


@pytest.mark.parametrize(
    ("specs", "given", "message"),
    [
        (
            ("lr",), {"steps": 3},
            "^--steps changes nothing: it is a setting of support-only, hard-label, label-halluc, assoalign, "
            "feature-distill, and --methods is 'logistic-regression'; drop the flag or add such a method$",
        ),
        (
            ("lr", "label-halluc:steps=3"), {"arc_scale": 3.0},
            "^--arc-scale changes nothing: it is a setting of assoalign, and --methods is 'logistic-regression lab",
        ),
        (("nearest-prototype",), {"c": 3.0}, "^--c changes nothing: it is a setting of logistic-regression, supp"),
        (("support-only",), {"base_batch": 3}, "^--base-batch changes nothing: it is a setting of hard-label, "),
    ],
)  # fmt: skip
def test_a_flag_that_no_asked_method_has_is_refused(specs, given, message):
    with pytest.raises(InputError, match=message):
        configs(*specs, **given)


INERT: list[tuple[str, str, Any, str, dict[str, Any]]] = [
    ("label-halluc", "related_classes", 3, "base-subset is all", {"base_subset": "related"}),
    ("hard-label", "related_classes", 3, "base-subset is all", {"base_subset": "related"}),
    ("feature-distill", "related_classes", 3, "base-subset is all", {"base_subset": "related"}),
    ("assoalign", "arc_scale", 3.0, "classifier-loss is softmax", {"classifier_loss": "arcmax"}),
    ("assoalign", "arc_margin", 0.5, "classifier-loss is softmax", {"classifier_loss": "arcmax"}),
    ("assoalign:classifier-loss=arcmax", "normalize", "off", "classifier-loss is arcmax", {}),
    ("label-halluc:base-gradient=none", "temperature", 2.0, "base-gradient is none", {}),
    ("label-halluc:base-gradient=none", "lambda_kl", 2.0, "base-gradient is none", {}),
    ("label-halluc:base-gradient=none", "pseudo_label_view", "augmented", "base-gradient is none", {}),
    ("label-halluc:lambda-kl=0", "temperature", 2.0, "lambda-kl is 0", {}),
    ("label-halluc:lambda-kl=0", "base_gradient", "head", "lambda-kl is 0", {}),
    ("label-halluc:lambda-kl=0", "pseudo_label_view", "augmented", "lambda-kl is 0", {}),
    ("hard-label:lambda-base=0", "pseudo_label_view", "augmented", "lambda-base is 0", {}),
    ("support-only", "c", 2.0, "head-init is random", {"head_init": "logistic-regression"}),
    ("feature-distill", "c", 2.0, "head-init is random and base-subset all", {"head_init": "logistic-regression"}),
    ("feature-distill", "c", 2.0, "head-init is random and base-subset all", {"base_subset": "related"}),
]


@pytest.mark.parametrize(("spec", "field", "value", "reason", "cure"), INERT)
def test_a_setting_that_another_one_makes_meaningless_is_refused(spec, field, value, reason, cure):
    flag = field.replace("_", "-")
    variant = f"{spec}{',' if ':' in spec else ':'}{flag}={value}"
    ways = (
        (variant, {}, f"^--methods {variant}: {flag} changes nothing where {reason}; drop one$"),
        (spec, {field: value}, f"^--{flag} changes nothing in {spec}, where {reason}; drop one of them$"),
    )
    for asked, given, message in ways:
        with pytest.raises(InputError, match=message):
            configs(asked, **given)
        name = spec.partition(":")[0]
        if cure:
            assert getattr(configs(asked, **given, **cure)[asked], field) == value
        else:
            assert getattr(configs(name, **{field: value})[name], field) == value


def test_a_flag_that_one_of_the_methods_uses_is_no_error_for_the_others():
    found = configs("label-halluc", "label-halluc:base-gradient=none", temperature=2.0)
    assert [config.temperature for config in found.values()] == [2.0, 2.0]
    assert list(configs("assoalign", "label-halluc", related_classes=5)) == ["assoalign", "label-halluc"]


@pytest.mark.parametrize(
    "spec", ["label-halluc:base-gradient=none", "label-halluc:lambda-kl=0", "hard-label:lambda-base=0"]
)
def test_a_term_may_be_switched_off_by_itself(spec):
    assert list(configs(spec)) == [spec]


@pytest.mark.parametrize("name", registry.names())
def test_field_names_are_those_of_the_settings(name):
    names = registry.find(name).setting_names
    assert "support_views" in names and ("steps" in names) == (name not in ("logistic-regression", "nearest-prototype"))
    assert ("base_batch" in names) == (name in ("hard-label", "label-halluc", "assoalign", "feature-distill"))


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ('path="/a,b/c.pth",steps=3', {"path": "/a,b/c.pth", "steps": 3}),
        ("path='/a,b',steps=3", {"path": "/a,b", "steps": 3}),
        ("""path='say "a,b"'""", {"path": 'say "a,b"'}),
        ("path=/a:b=c", {"path": "/a:b=c"}),
        ("path=/a b , steps=3", {"path": "/a b", "steps": 3}),
        ('path=""', {"path": ""}),
        ("path=C:\\weights", {"path": "C:\\weights"}),
    ],
)
def test_a_quoted_value_may_hold_what_separates_settings(text, settings, with_path):
    assert parse_variant(f"with-path:{text}") == ("with-path", settings)
    assert parse_variant(f"with-path:{text_of(settings)}") == ("with-path", settings)


def test_an_open_quote_is_refused(with_path):
    with pytest.raises(InputError, match=r"^--methods with-path:path=\"/a: a quotation mark is not closed$"):
        parse_variant('with-path:path="/a')


@dataclass(frozen=True, kw_only=True)
class WithPath:
    path: str = ""
    steps: int = 1


@pytest.fixture
def with_path(monkeypatch: pytest.MonkeyPatch) -> None:
    method = MethodDefinition(name="with-path", summary="takes a path", settings=WithPath, solver="nowhere:WithPath")
    monkeypatch.setattr(registry, "METHODS", (*registry.METHODS, method))
