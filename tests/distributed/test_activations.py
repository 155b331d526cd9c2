"""Kept activations of base images: which are needed, that Ray makes those of a single process, rows made from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rayfs.backbones.split import split
from rayfs.distributed import table_features
from rayfs.distributed.activations import (
    activation_shape,
    ensure_activations,
    kept_activations,
    kept_bytes,
)
from rayfs.distributed.base_bank import ensure_bank
from rayfs.distributed.pool import PoolSize
from rayfs.distributed.session import Resources
from rayfs.engine.table_views import TableViews, embed_range, n_ranges
from rayfs.errors import InputError
from rayfs.experiments.episodes.experiment import Experiment
from rayfs.experiments.episodes.job import open_run
from rayfs.experiments.episodes.run import Execution, evaluate, wanted_rows, worker_spec
from rayfs.methods.variants import method_settings
from rayfs.runs.rows import scientific_columns
from rayfs.workers.episode_worker import EpisodeWorker

pytestmark = pytest.mark.ray

CPU = torch.device("cpu")
KEPT = "frozen-blocks=2,frozen-views=2"
METHODS = ("logistic-regression", f"label-halluc:{KEPT}", f"hard-label:{KEPT}", f"support-only:{KEPT}")


@pytest.fixture(scope="module")
def kept_experiment(experiment: Experiment) -> Experiment:
    given = {"steps": 2, "support_views": 2}
    return replace(experiment, methods=method_settings(METHODS, "omniglot", 5, 1, given))


def test_each_kind_of_activations_is_kept_once_and_none_for_the_support_alone() -> None:
    specs = (
        "logistic-regression",
        *METHODS[1:],
        "label-halluc:frozen-blocks=1,frozen-views=3",
        "label-halluc:frozen-blocks=3",
    )
    assert kept_activations(method_settings(specs, "omniglot", 5, 1, {})) == [(2, 2), (1, 3)]
    assert kept_activations(method_settings(METHODS[::3], "omniglot", 5, 1, {})) == []


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("value", [7e4, -7e4, np.inf, np.nan])
def test_activations_that_half_precision_cannot_hold_are_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"kept as float16, which ends at 65,504; use --frozen-views 0"):
        table_features.in_half_precision(np.array([1.0, value], dtype=np.float32))


def test_activations_made_by_ray_are_those_of_a_single_process_in_half_precision(
    kept_experiment: Experiment, cache_dir: Path, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, spec = kept_experiment.novel, kept_experiment.backbone
    augmentation = kept_experiment.benchmark.augmentation
    arguments = (table, spec, kept_experiment.methods, augmentation, 0, cache_dir, resources, False)
    paths = ensure_activations(*arguments)
    assert list(paths) == [(2, 2)]
    found = np.load(paths[2, 2])
    first, _ = split(spec.load(CPU), 2)
    views = TableViews(n=2, seed=0, augmentation=augmentation)
    alone = [embed_range(table, r, first, spec.mean, spec.std, CPU, views)[1] for r in range(n_ranges(len(table)))]
    assert found.dtype == np.float16 and found.shape == (340, 2, 64, 7, 7)
    assert found.shape[1:] == activation_shape(spec, (2, 2))
    assert found.nbytes == 340 * kept_bytes(spec, (2, 2))
    assert np.array_equal(found, np.concatenate(alone).astype(np.float16))
    monkeypatch.setattr(table_features, "run_data_task", lambda *_: pytest.fail("computed again"))
    assert ensure_activations(*arguments) == paths


def test_rows_of_kept_views_are_the_same_from_actors_as_from_one_process(
    kept_experiment: Experiment, cache_dir: Path, resources: Resources, tmp_path: Path
) -> None:
    with open_run(kept_experiment, str(tmp_path / "run"), ["test"]) as run:
        evaluate(kept_experiment, run, Execution(workers=2), cache_dir=cache_dir, command=["test"])
        rows = {(row.episode, row.method): row for row in wanted_rows(kept_experiment, run)}
    bank = ensure_bank(kept_experiment.base, kept_experiment.backbone, cache_dir, resources, gpu=False)
    activations = ensure_activations(
        bank.table, kept_experiment.backbone, kept_experiment.methods, kept_experiment.benchmark.augmentation,
        kept_experiment.protocol.seed, cache_dir, resources, False,
    )  # fmt: skip
    one = PoolSize(workers=1, cpus_per_worker=1, gpus_per_worker=0)
    worker = EpisodeWorker(worker_spec(kept_experiment, bank, activations, one, cache_dir))
    worker.prepare()
    for episode in kept_experiment.episodes[:2]:
        for row in worker.run(episode, list(METHODS), 1):
            assert row.status == "ok", row.error
            assert scientific_columns([row]) == scientific_columns([rows[row.episode, row.method]])
