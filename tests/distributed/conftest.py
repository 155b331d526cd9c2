"""A small experiment on real Omniglot images; its cluster is the one that all tests share."""

from pathlib import Path

import pytest

from rayfs.distributed.eval_config import EvalConfig
from rayfs.distributed.experiment import Experiment
from rayfs.distributed.label_halluc_eval import build_experiment


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def experiment(cache_dir: Path) -> Experiment:
    """Five-way one-shot episodes of validation characters, two steps each."""
    config = EvalConfig(
        split="validation", n_way=5, n_shot=1, n_query=3, episodes=6, steps=2, support_views=2, check=True
    )
    return build_experiment(config, cache_dir)
