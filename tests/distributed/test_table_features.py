"""Features of a decoded table: Ray gives those of a single process, and decodes nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rayfs.backbones import create_backbone, save_checkpoint, state_hash
from rayfs.datasets.augmentation import normalize, plain_view
from rayfs.datasets.image_table import load_table
from rayfs.datasets.registry import open_benchmark
from rayfs.distributed import base_bank as bank_module
from rayfs.distributed import table_features
from rayfs.distributed.base_bank import ensure_bank
from rayfs.distributed.session import Resources
from rayfs.distributed.table_features import ensure_table_features, features_path
from rayfs.engine.bank import embed_table
from rayfs.engine.table_views import TableViews, embed_range, n_ranges
from rayfs.experiments.episodes.experiment import Experiment
from rayfs.randomness import torch_generator

pytestmark = pytest.mark.ray

CPU = torch.device("cpu")


def test_views_made_by_ray_are_those_of_a_single_process_bit_for_bit(
    experiment: Experiment, cache_dir: Path, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, spec = experiment.novel, experiment.backbone
    views = TableViews(n=2, seed=0, augmentation=experiment.benchmark.augmentation)
    bank = ensure_table_features(table, spec, cache_dir, resources, gpu=False, views=views)
    assert bank.features.shape == (340, 2, 64)
    backbone = spec.load(CPU)
    alone = [embed_range(table, r, backbone, spec.mean, spec.std, CPU, views)[1] for r in range(n_ranges(len(table)))]
    assert np.array_equal(bank.features, np.concatenate(alone))
    monkeypatch.setattr(table_features, "run_data_task", lambda *_: pytest.fail("computed again"))
    assert ensure_table_features(table, spec, cache_dir, resources, gpu=False, views=views).path == bank.path


def test_a_second_checkpoint_on_known_images_decodes_nothing(
    experiment: Experiment, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_benchmark("omniglot").source("validation", tmp_path)
    table = load_table(source, tmp_path, channels=1, image_size=28)
    module = create_backbone("conv4", 1, 28, torch_generator(5, "another"))
    save_checkpoint(tmp_path / "another.safetensors", module, {})
    spec = replace(experiment.backbone, checkpoint=str(tmp_path / "another.safetensors"), state_hash=state_hash(module))
    monkeypatch.setattr(bank_module, "_run_build", lambda *_: pytest.fail("decoded again"))
    bank = ensure_bank(source, spec, tmp_path, resources, gpu=False)
    assert bank.path == features_path(tmp_path, table, spec, gpu=False)
    reference = embed_table(
        table, spec.load(CPU), lambda images: normalize(plain_view(images), spec.mean, spec.std), CPU
    )
    assert np.array_equal(bank.features, reference)
    assert not list((tmp_path / "features").glob(".*")), "no temporary file is left"
