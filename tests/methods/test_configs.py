"""Settings: their defaults, and what each refuses."""

from dataclasses import fields
from typing import Any

import pytest

from rayfs.errors import InputError
from rayfs.methods.assoalign import AssoAlignSettings
from rayfs.methods.feature_distill import FeatureDistillSettings
from rayfs.methods.hard_label import HardLabelSettings
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.logistic_regression import LogisticRegressionSettings
from rayfs.methods.nearest_prototype import NearestPrototypeSettings
from rayfs.methods.support_only import SupportOnlySettings

LEAST = {"steps": 1, "support_views": 1, "step_views": 1, "base_batch": 1}


def make(kind: type, **changes: Any) -> Any:
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in {**LEAST, **changes}.items() if name in known})


def test_defaults_are_those_of_the_released_code():
    config = LabelHallucSettings(steps=307, support_views=5, step_views=5, base_batch=125)
    numbers = (config.temperature, config.lambda_kl, config.lambda_ce, config.lr, config.head_lr)
    assert numbers == (4.0, 1.0, 1.0, 0.025, 0.05)
    assert (config.momentum, config.weight_decay, config.c) == (0.9, 5e-4, 1.0)
    words = (config.first_conv, config.head_init, config.batch_norm, config.pseudo_label_view)
    assert words == ("frozen", "random", "joint", "plain")
    assert (config.dropout, config.normalize, config.schedule) == ("on", "on", "constant")
    assert (config.support_batch, config.early_stop, config.frozen_blocks) == (None, 0, 0)
    assert (config.base_gradient, config.base_subset, config.related_classes) == ("both", "all", 10)
    assert (config.base_fraction, config.base_imbalance, config.imbalance_ratio) == (1.0, "none", 1.0)


def test_defaults_of_the_other_methods():
    align = make(AssoAlignSettings)
    assert (align.classifier_loss, align.centroid_alignment, align.related_classes) == ("softmax", "on", 10)
    assert (align.arc_scale, align.arc_margin) == (15.0, 0.001)
    assert make(HardLabelSettings).lambda_base == make(FeatureDistillSettings).lambda_base == 1.0
    assert make(LogisticRegressionSettings).c == make(SupportOnlySettings).c == 1.0


FINETUNING = [
    *((name, 0, "at least 1") for name in ("steps", "support_views", "step_views", "support_batch")),
    *((name, -1, "0 or more") for name in ("early_stop", "frozen_blocks")),
    *((name, 0.0, "a positive number") for name in ("lr", "head_lr", "c")),
    *((name, float("nan"), "a positive number") for name in ("lr", "head_lr", "c")),
    ("lr", float("inf"), "a positive number"),
    *((name, -1e-3, "zero or a positive number") for name in ("lambda_ce", "weight_decay")),
    ("lambda_ce", float("nan"), "zero or a positive number"),
    ("momentum", 1.0, "0 or more, and less than 1"),
    ("momentum", -0.1, "0 or more, and less than 1"),
    ("momentum", float("nan"), "0 or more, and less than 1"),
    ("schedule", "step", "one of constant, linear, cosine"),
    ("first_conv", "thawed", "one of frozen, trained"),
    ("head_init", "zero", "one of random, logistic-regression"),
    ("dropout", "0.1", "one of on, off"),
    ("normalize", "l2", "one of on, off"),
]
ON_BASE_IMAGES = [
    *((name, 0, "at least 1") for name in ("base_batch", "related_classes")),
    ("batch_norm", "apart", "one of joint, split"),
    ("base_subset", "some", "one of all, related"),
    *(("base_fraction", value, "more than 0, and at most 1") for value in (0.0, 1.01, -1.0, float("nan"))),
    *(("imbalance_ratio", value, "1 or more") for value in (0.5, float("inf"), float("nan"))),
    ("base_imbalance", "linear", "one of none, step, exponential"),
]
OWN = {
    LabelHallucSettings: [
        *(("temperature", value, "a positive number") for value in (0.0, float("nan"), float("inf"))),
        *(("lambda_kl", value, "zero or a positive number") for value in (-1.0, float("nan"))),
        ("base_gradient", "neither", "one of none, head, backbone, both"),
        ("pseudo_label_view", "both", "one of plain, augmented"),
    ],
    HardLabelSettings: [
        ("lambda_base", -1.0, "zero or a positive number"), ("pseudo_label_view", "both", "one of plain, augmented"),
    ],
    FeatureDistillSettings: [("lambda_base", float("inf"), "zero or a positive number")],
    SupportOnlySettings: [],
    AssoAlignSettings: [
        *((name, 0, "at least 1") for name in ("base_batch", "related_classes")),
        ("classifier_loss", "arcface", "one of softmax, arcmax"),
        ("centroid_alignment", "yes", "one of on, off"),
        ("arc_scale", 0.0, "a positive number"),
        ("arc_margin", -0.1, "zero or a positive number"),
    ],
    LogisticRegressionSettings: [
        ("support_views", 0, "at least 1"), ("c", 0.0, "a positive number"), ("c", float("nan"), "a positive number"),
    ],
    NearestPrototypeSettings: [("support_views", 0, "at least 1")],
}  # fmt: skip
FROZEN = (LogisticRegressionSettings, NearestPrototypeSettings)
FINETUNING_ON_BASE = (LabelHallucSettings, HardLabelSettings, FeatureDistillSettings)
REFUSED = [
    *((kind, *case) for kind, cases in OWN.items() for case in cases),
    *(
        (kind, *case)
        for kind in OWN
        if kind not in (LogisticRegressionSettings, NearestPrototypeSettings)
        for case in FINETUNING
    ),
    *(
        (kind, *case)
        for kind in (LabelHallucSettings, HardLabelSettings, FeatureDistillSettings)
        for case in ON_BASE_IMAGES
    ),
]


@pytest.mark.parametrize(("kind", "field", "value", "expected"), REFUSED)
def test_impossible_setting_is_refused_with_its_name_value_and_what_was_expected(kind, field, value, expected):
    with pytest.raises(InputError) as refusal:
        make(kind, **{field: value})
    message = str(refusal.value)
    assert (
        message.startswith(f"--{field.replace('_', '-')} is ")
        and str(value) in message
        and message.endswith(f"expected {expected}")
    )


@pytest.mark.parametrize("kind", [LabelHallucSettings, HardLabelSettings, FeatureDistillSettings])
@pytest.mark.parametrize(("form", "ratio"), [("none", 2.0), ("step", 1.0), ("exponential", 1.0)])
def test_imbalance_without_a_ratio_and_a_ratio_without_a_form_are_refused(kind, form, ratio):
    with pytest.raises(InputError, match=f"--base-imbalance is '{form}' with --imbalance-ratio {ratio:g}: one"):
        make(kind, base_imbalance=form, imbalance_ratio=ratio)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        *((LabelHallucSettings, field) for field in ("lambda_kl", "lambda_ce", "weight_decay", "momentum")),
        (HardLabelSettings, "lambda_base"), (FeatureDistillSettings, "lambda_base"), (AssoAlignSettings, "arc_margin"),
        (SupportOnlySettings, "early_stop"),
    ],
)  # fmt: skip
def test_zero_switches_a_term_off(kind, field):
    assert getattr(make(kind, **{field: 0.0}), field) == 0
