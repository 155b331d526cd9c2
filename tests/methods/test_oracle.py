"""Every method that finetunes against a slow second implementation, written from the equations in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from method_tracing import run_and_trace
from oracle_assoalign import assoalign_oracle
from oracle_feature_distill import feature_distill_oracle
from oracle_finetuning import BLOCKS, FIRST_CONVOLUTION, Episode, Trace
from oracle_hard_label import hard_label_oracle
from oracle_label_halluc import label_halluc_oracle
from oracle_support_only import support_only_oracle
from torch import Tensor

from rayfs.backbones import regularisation
from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.resnet12 import ResNet12
from rayfs.methods import registry
from rayfs.methods.finetuning.settings import FinetuneSettings
from rayfs.methods.method import Solution, Task, World
from rayfs.randomness import EpisodeRandomness, torch_generator

RANDOMNESS = EpisodeRandomness(seed=5, index=2)
ORACLES = {
    "label-halluc": label_halluc_oracle,
    "hard-label": hard_label_oracle,
    "feature-distill": feature_distill_oracle,
    "support-only": support_only_oracle,
    "assoalign": assoalign_oracle,
}
# Raw features have small learning rates: larger steps soon put some unit on the other side of a kink in float32.
RAW: dict[str, Any] = {"normalize": "off", "lr": 0.005, "head_lr": 0.01}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "released": ("label-halluc", "conv4", {}),
    "released, resnet12": ("label-halluc", "resnet12", {}),
    "split batch norm": ("label-halluc", "conv4", {"batch_norm": "split"}),
    "split batch norm, resnet12": ("label-halluc", "resnet12", {"batch_norm": "split", "dropout": "off"}),
    "augmented pseudo-labels": ("label-halluc", "conv4", {"pseudo_label_view": "augmented"}),
    "head from the teacher": ("label-halluc", "conv4", {"head_init": "logistic-regression"}),
    "first convolution trained": ("label-halluc", "conv4", {"first_conv": "trained"}),
    "first convolution trained, resnet12": (
        "label-halluc", "resnet12", {"first_conv": "trained", "pseudo_label_view": "augmented"},
    ),
    "raw features": ("label-halluc", "conv4", RAW),
    "no dropout": ("label-halluc", "resnet12", {"dropout": "off", "head_init": "logistic-regression"}),
    "other weights": ("label-halluc", "conv4", {"lambda_kl": 3.0, "lambda_ce": 0.25, "temperature": 1.5, "c": 10.0}),
    "other optimiser": ("label-halluc", "conv4", {"momentum": 0.0, "weight_decay": 0.1, "lr": 0.01, "head_lr": 0.2}),
    "distillation alone": ("label-halluc", "conv4", {"lambda_ce": 0.0}),
    "everything else": (
        "label-halluc", "resnet12",
        {
            "batch_norm": "split", "pseudo_label_view": "augmented", "head_init": "logistic-regression",
            "first_conv": "trained", "normalize": "off", "lr": 0.001, "head_lr": 0.002,
        },
    ),
    "base gradient to nothing": ("label-halluc", "conv4", {"base_gradient": "none"}),
    "base gradient to the head": ("label-halluc", "conv4", {"base_gradient": "head", "lambda_kl": 5.0}),
    "base gradient to the backbone": ("label-halluc", "conv4", {"base_gradient": "backbone", "lambda_kl": 5.0}),
    "base gradient to the backbone, raw features": (
        "label-halluc", "conv4", {**RAW, "base_gradient": "backbone", "batch_norm": "split"},
    ),
    "base gradient to the head, split": ("label-halluc", "conv4", {"base_gradient": "head", "batch_norm": "split"}),
    "related base images": ("label-halluc", "conv4", {"base_subset": "related", "related_classes": 1}),
    "share of the base images": ("label-halluc", "conv4", {"base_fraction": 0.25}),
    "imbalanced base images": (
        "label-halluc", "conv4", {"base_imbalance": "exponential", "imbalance_ratio": 8.0, "base_fraction": 0.5},
    ),
    "related images of an imbalanced base set": (
        "label-halluc", "conv4",
        {"base_imbalance": "step", "imbalance_ratio": 4.0, "base_subset": "related", "related_classes": 2},
    ),
    "support mini-batches": ("label-halluc", "conv4", {"support_batch": 5}),
    "linear schedule": ("label-halluc", "conv4", {"schedule": "linear"}),
    "cosine schedule": ("label-halluc", "conv4", {"schedule": "cosine"}),
    "frozen blocks": ("label-halluc", "conv4", {"frozen_blocks": 2}),
    "frozen blocks, resnet12, split": (
        "label-halluc", "resnet12", {"frozen_blocks": 3, "batch_norm": "split", "first_conv": "trained"},
    ),
    "kept views": ("label-halluc", "conv4", {"frozen_blocks": 2, "frozen_views": 3}),
    "kept views, split, resnet12": (
        "label-halluc", "resnet12", {"frozen_blocks": 1, "frozen_views": 2, "batch_norm": "split", "support_batch": 4},
    ),
    "kept views of the support alone": ("support-only", "conv4", {"frozen_blocks": 2, "frozen_views": 3}),
    "kept views, hard labels": ("hard-label", "conv4", {"frozen_blocks": 2, "frozen_views": 3}),
    "kept views, feature distillation": ("feature-distill", "conv4", {"frozen_blocks": 2, "frozen_views": 3}),
    "kept views, alignment": ("assoalign", "conv4", {"frozen_blocks": 2, "frozen_views": 3, "related_classes": 2}),
    "early stop": ("label-halluc", "conv4", {"early_stop": 1, "steps": 8, "support_batch": 3}),
    "support only": ("support-only", "conv4", {}),
    "support only, resnet12": (
        "support-only", "resnet12", {"lambda_ce": 0.5, "schedule": "linear", "support_batch": 4},
    ),
    "support only from the classifier": ("support-only", "conv4", {"head_init": "logistic-regression", "c": 3.0}),
    "hard labels": ("hard-label", "conv4", {"lambda_base": 2.0}),
    "hard labels of augmented views": ("hard-label", "conv4", {"pseudo_label_view": "augmented"}),
    "hard labels, split, related": (
        "hard-label", "resnet12", {"batch_norm": "split", "base_subset": "related", "related_classes": 2},
    ),
    "feature distillation": ("feature-distill", "conv4", {"lambda_base": 4.0}),
    "feature distillation, split, resnet12": (
        "feature-distill", "resnet12", {"batch_norm": "split", "lambda_base": 2.0},
    ),
    "alignment": ("assoalign", "conv4", {"related_classes": 2}),
    "alignment, resnet12": ("assoalign", "resnet12", {"related_classes": 1, "frozen_blocks": 1, "lr": 0.005}),
    "alignment with arcMax": (
        "assoalign", "conv4",
        {"classifier_loss": "arcmax", "arc_scale": 4.0, "arc_margin": 0.3, "related_classes": 2, "lr": 0.005},
    ),
    "arcMax from the classifier, no alignment": (
        "assoalign", "conv4",
        {
            "classifier_loss": "arcmax", "centroid_alignment": "off", "head_init": "logistic-regression",
            "lambda_ce": 0.5, "lr": 0.005, "head_lr": 0.02, "arc_scale": 5.0,
        },
    ),
    "related images without alignment": ("assoalign", "conv4", {"centroid_alignment": "off", "related_classes": 2}),
    "alignment of support mini-batches": (
        "assoalign", "conv4", {"support_batch": 3, "steps": 4, "related_classes": 2, "schedule": "cosine"},
    ),
}  # fmt: skip


def make_config(method: str = "label-halluc", **changes: Any) -> FinetuneSettings:
    settings = {"steps": 5, "support_views": 3, "step_views": 2, "base_batch": 7, **changes}
    known = registry.find(method)
    return known.settings(**{name: value for name, value in settings.items() if name in known.setting_names})


@pytest.fixture(scope="module")
def worlds(characters, make_world) -> dict[str, World]:
    """Return worlds of 160 base images; 5 steps of 7 stay in one pass; dropout is strong enough to matter."""
    backbones = {
        "conv4": Conv4(1, width=6, generator=torch_generator(0, "weights")),
        "resnet12": ResNet12(1, (4, 5, 6, 8), drop_rate=0.4, dropblock_size=2, generator=torch_generator(0, "weights")),
    }
    kept = ((2, 3), (1, 2))
    return {name: make_world(characters, backbone, kept=kept) for name, backbone in backbones.items()}


@pytest.fixture(scope="module")
def task(characters, make_task) -> Task:
    return make_task(characters, [0, 3, 5], n_shot=2, n_query=2)


@pytest.fixture(autouse=True)
def short_dropblock_ramp(monkeypatch):
    """Let DropBlock reach its full rate in 4 forwards instead of 40,000: so short a run would never drop anything."""
    monkeypatch.setattr(regularisation, "RAMP_FORWARDS", 4)


@pytest.mark.parametrize("case", CASES)
def test_finetuning_equals_the_oracle(case, worlds, task, monkeypatch):
    method, backbone, changes = CASES[case]
    world, config = worlds[backbone], make_config(method, **changes)
    found, solution, _ = run_and_trace(task, world, config, RANDOMNESS, monkeypatch)
    expected, logits = ORACLES[method](Episode(task, world, config, RANDOMNESS, backbone))
    assert_same_run(found, expected, config)
    assert_close(solution.logits, logits)
    assert_solution_tells_the_last_losses(solution, found, has_base=method != "support-only")
    assert solution.steps == config.steps or config.early_stop


def assert_same_run(found: Trace, expected: Trace, config: FinetuneSettings) -> None:
    assert found.base_rows == expected.base_rows
    for given, wanted in zip(found.pseudo_logits, expected.pseudo_logits, strict=True):
        assert_close(given, wanted, atol=1e-4)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=2e-4, atol=1e-6)
    assert found.state.keys() == expected.state.keys()
    for name, wanted in expected.state.items():
        assert_close(found.state[name], wanted, what=name)
    buffers = expected.momentum if config.momentum else {}
    assert found.momentum.keys() == buffers.keys()
    for name, wanted in buffers.items():
        assert_close(found.momentum[name], wanted, what=name)


def assert_solution_tells_the_last_losses(solution: Solution, found: Trace, has_base: bool) -> None:
    assert solution.steps == len(found.losses)
    loss_base, loss_support = found.losses[-1]
    assert solution.loss_support == loss_support
    assert solution.loss_base == (loss_base if has_base else None)


def assert_close(given: Tensor, wanted: Tensor, atol: float = 3e-5, what: str = "") -> None:
    torch.testing.assert_close(
        given.double(), wanted.double(), atol=atol, rtol=1e-3, msg=lambda text: f"{what}: {text}"
    )


def test_early_stop_takes_the_steps_of_the_oracle_and_fewer_than_it_may(worlds, task, monkeypatch):
    method, backbone, changes = CASES["early stop"]
    found, solution, _ = run_and_trace(task, worlds[backbone], make_config(method, **changes), RANDOMNESS, monkeypatch)
    assert 2 <= solution.steps == len(found.losses) < changes["steps"]
    totals = [sum(losses) for losses in found.losses]
    assert totals[-1] >= totals[-2] and totals[:-1] == sorted(totals[:-1], reverse=True)


@pytest.mark.parametrize(
    ("backbone", "n_blocks"), [("conv4", 0), ("resnet12", 0), ("conv4", 1), ("conv4", 3), ("resnet12", 2)]
)
@pytest.mark.parametrize("method", ["label-halluc", "assoalign"])
def test_what_is_frozen_keeps_its_bits_and_everything_else_moves(backbone, n_blocks, method, worlds, task, monkeypatch):
    world = worlds[backbone]
    config = make_config(method, steps=2, frozen_blocks=n_blocks)
    found, _, _ = run_and_trace(task, world, config, RANDOMNESS, monkeypatch)
    unmoved = {
        name
        for name, tensor in world.backbone.state_dict().items()
        if torch.equal(tensor, found.state[f"backbone.{name}"])
    }
    frozen = tuple(BLOCKS[backbone][:n_blocks])
    first = FIRST_CONVOLUTION[backbone]
    parameters = dict(world.backbone.named_parameters())
    expected = {name for name in world.backbone.state_dict() if name.startswith(frozen)} if frozen else set()
    first_weights = {name for name in parameters if name.startswith(first)}
    assert first_weights and unmoved == expected | first_weights
    n_tensors = len(parameters) + 2
    assert len(found.momentum) == n_tensors - len(unmoved & parameters.keys())
    if (backbone, n_blocks) == ("resnet12", 0):
        assert (len(found.momentum), n_tensors) == (49, 50)  # as in the released code


@pytest.mark.parametrize("method", ["label-halluc", "feature-distill"])
def test_passes_over_a_small_base_set_equal_the_oracle(method, characters, make_world, task, monkeypatch):
    """160 base images in batches of 70: the third step starts the second pass."""
    world = make_world(characters, Conv4(1, width=4, generator=torch_generator(0, "weights")))
    config = make_config(method, base_batch=70, steps=3)
    found, solution, _ = run_and_trace(task, world, config, RANDOMNESS, monkeypatch)
    expected, logits = ORACLES[method](Episode(task, world, config, RANDOMNESS, "conv4"))
    assert found.base_rows == expected.base_rows
    assert not set(found.base_rows[0]) & set(found.base_rows[1])
    np.testing.assert_allclose(found.losses, expected.losses, rtol=2e-4)
    assert_close(solution.logits, logits)


def test_batch_is_the_whole_base_set_where_fewer_images_are_related(worlds, task, monkeypatch):
    config = make_config(base_subset="related", related_classes=1, base_batch=100, steps=1)
    found, _, _ = run_and_trace(task, worlds["conv4"], config, RANDOMNESS, monkeypatch)
    expected, _ = label_halluc_oracle(Episode(task, worlds["conv4"], config, RANDOMNESS, "conv4"))
    assert found.base_rows == expected.base_rows and 0 < len(found.base_rows[0]) < 100
