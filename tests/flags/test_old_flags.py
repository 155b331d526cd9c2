"""Command lines that worked when flags were one flat list, the settings of all methods in it: every flag."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from rayfs.experiments.embeddings.flags import EmbeddingEvalConfig
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.long_tail.flags import LongTailEvalConfig
from rayfs.experiments.tables.flags import PaperTableConfig
from rayfs.experiments.tuning.flags import TuneConfig
from rayfs.flags.parsing import flag_values, parse
from rayfs.performance.benchmark_flags import BenchmarkConfig

OLD_DEFAULTS: dict[str, Any] = {
    "benchmark": "omniglot", "data": None, "image_size": None, "split": "test", "base_classes": (),
    "novel_classes": (), "n_way": None, "n_shot": None, "n_query": None, "episodes": None, "seed": 0,
    "methods": ("logistic-regression", "label-halluc"), "recipe": "released", "backbone": "conv4", "checkpoint": None,
    "steps": None,
    "temperature": None, "lambda_kl": None, "lambda_base": None, "lambda_ce": None, "lr": None, "head_lr": None,
    "schedule": None, "early_stop": None, "weight_decay": None, "momentum": None, "base_batch": None,
    "support_views": None, "step_views": None, "support_batch": None, "base_gradient": None, "base_subset": None,
    "related_classes": None, "base_fraction": None, "base_imbalance": None, "imbalance_ratio": None,
    "classifier_loss": None, "centroid_alignment": None, "arc_scale": None, "arc_margin": None, "c": None,
    "frozen_blocks": None, "frozen_views": None, "first_conv": None, "head_init": None, "batch_norm": None,
    "pseudo_label_view": None, "dropout": None, "normalize": None, "joint_queries": None, "precision": None,
    "execution": None, "workers": None, "gpus_per_worker": None, "cpus_per_worker": 1, "wait_for_nodes": None,
    "episode_timeout": None, "episode_log": None, "out": None, "manifest": None, "plan": False, "check": False,
}  # fmt: skip
"""Flag of the main job -> its value where it is not given."""


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("--benchmark fc100 --data /x --image-size 32", {"benchmark": "fc100", "data": "/x", "image_size": 32}),
        ("--split validation --seed 7", {"split": "validation", "seed": 7}),
        ("--base-classes animals not:Latin", {"base_classes": ("animals", "not:Latin")}),
        ("--novel-classes Latin", {"novel_classes": ("Latin",)}),
        ("--n-way 5 --n-shot 1 --n-query 3 --episodes 9", {"n_way": 5, "n_shot": 1, "n_query": 3, "episodes": 9}),
        ("--methods lr label-halluc:steps=3,lr=0.1", {"methods": ("lr", "label-halluc:steps=3,lr=0.1")}),
        ("--recipe fast --backbone resnet12", {"recipe": "fast", "backbone": "resnet12"}),
        ("--checkpoint a.pth --steps 100", {"checkpoint": Path("a.pth"), "steps": 100}),
        ("--temperature 2 --lambda-kl 0.5 --lambda-base 3", {"temperature": 2.0, "lambda_kl": 0.5, "lambda_base": 3.0}),
        ("--lambda-ce .1 --lr 1e-3 --head-lr 0.3", {"lambda_ce": 0.1, "lr": 0.001, "head_lr": 0.3}),
        ("--lr -1", {"lr": -1.0}),
        ("--schedule cosine --early-stop 5", {"schedule": "cosine", "early_stop": 5}),
        ("--weight-decay 0 --momentum 0.5", {"weight_decay": 0.0, "momentum": 0.5}),
        ("--base-batch 5", {"base_batch": 5}),
        ("--base-batch=5", {"base_batch": 5}),
        ("--base_batch 5", {"base_batch": 5}),
        ("--base_batch=5", {"base_batch": 5}),
        ("--n_way=5", {"n_way": 5}),
        ("--steps 5 --steps 6", {"steps": 6}),
        ("--support-batch None --n-way None", {}),
        ("--support-views 1 --step-views 2", {"support_views": 1, "step_views": 2}),
        ("--support-batch 3", {"support_batch": 3}),
        ("--base-gradient head --base-subset related", {"base_gradient": "head", "base_subset": "related"}),
        ("--related-classes 4 --base-fraction 0.5", {"related_classes": 4, "base_fraction": 0.5}),
        ("--base-imbalance step --imbalance-ratio 10", {"base_imbalance": "step", "imbalance_ratio": 10.0}),
        ("--classifier-loss arcmax", {"classifier_loss": "arcmax"}),
        ("--centroid-alignment off", {"centroid_alignment": "off"}),
        ("--arc-scale 2 --arc-margin 0.1 --c 10", {"arc_scale": 2.0, "arc_margin": 0.1, "c": 10.0}),
        ("--frozen-blocks 2 --frozen-views 4", {"frozen_blocks": 2, "frozen_views": 4}),
        ("--first-conv trained --batch-norm split", {"first_conv": "trained", "batch_norm": "split"}),
        ("--head-init logistic-regression", {"head_init": "logistic-regression"}),
        ("--pseudo-label-view augmented --dropout off", {"pseudo_label_view": "augmented", "dropout": "off"}),
        ("--normalize off --joint-queries 9", {"normalize": "off", "joint_queries": 9}),
        ("--precision bf16 --execution compiled-graph", {"precision": "bf16", "execution": "compiled-graph"}),
        ("--workers 3 --gpus-per-worker 0.5", {"workers": 3, "gpus_per_worker": 0.5}),
        ("--cpus-per-worker 2", {"cpus_per_worker": 2}),
        ("--wait-for-nodes 9 --episode-timeout 60", {"wait_for_nodes": 9.0, "episode_timeout": 60.0}),
        ("--episode-log log --manifest m", {"episode_log": Path("log"), "manifest": Path("m")}),
        ("--plan --no-check", {"plan": True}),
        ("--check --no-plan", {"check": True}),
    ],
)  # fmt: skip
def test_a_command_line_of_the_main_job_is_read_as_before(line: str, given: dict[str, Any]) -> None:
    config = parse(EvalConfig, ["--out", "runs/a", *shlex.split(line)])
    assert flag_values(config) == {**OLD_DEFAULTS, "out": "runs/a", **given}


@pytest.mark.parametrize(
    ("config_class", "line", "given"),
    [
        (EmbeddingEvalConfig, "--n-shot 1 5 10 --threads 2", {"n_shot": (1, 5, 10), "threads": 2, "backbone": "conv4"}),
        (EmbeddingEvalConfig, "--no-support-jitter --device cpu", {"support_jitter": False, "device": "cpu"}),
        (EmbeddingEvalConfig, "--svm-c 2 --no-normalize", {"svm_c": 2.0, "normalize": False, "c": 1.0}),
        (LongTailEvalConfig, "--k 0 5 --no-own-neighbour", {"k": (0, 5), "own_neighbour": False}),
        (LongTailEvalConfig, "--checkpoint a b", {"checkpoint": ("a", "b"), "benchmark": "cifar100-lt"}),
        (LongTailEvalConfig, "", {"backbone": "resnet32", "device": "auto", "threads": 1, "data": None}),
        (PaperTableConfig, "--table 3 --out o --workers 2", {"workers": 2, "n_shot": (), "head_init": None}),
        (PaperTableConfig, "--table 6 --out o --steps 4", {"steps": 4, "cpus_per_worker": 1, "backbone": "conv4"}),
        (TuneConfig, "--out o", {"split": "validation", "asha": True, "hold": (), "precision": None}),
        (TuneConfig, "--out o --precision bf16 --no-asha", {"precision": "bf16", "asha": False}),
        (TuneConfig, "--out o --log-to wandb mlflow", {"log_to": ("wandb", "mlflow"), "gpus_per_trial": None}),
        (TuneConfig, "--out o --hold base-gradient=head", {"hold": ("base-gradient=head",)}),
        (BenchmarkConfig, "--measure scaling sweep", {"measure": ("scaling", "sweep"), "images": 448_695}),
        (BenchmarkConfig, "--whole --execution graph", {"whole": True, "execution": "graph", "checkpoint": None}),
    ],
)
def test_a_command_line_of_another_job_is_read_as_before(config_class: type, line: str, given: dict[str, Any]) -> None:
    values = flag_values(parse(config_class, shlex.split(line)))
    assert {name: values[name] for name in given} == given
