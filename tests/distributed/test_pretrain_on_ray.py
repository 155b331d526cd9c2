"""Embedding learning over Ray Train: what is refused, and who gets a GPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rayfs.distributed.session import Resources
from rayfs.distributed.training_workers import (
    Mailbox,
    clear_litter,
    even_share,
    only_writer,
)
from rayfs.errors import InputError
from rayfs.experiments.training.job import pick_device, run_pretraining
from rayfs.training.config import PretrainConfig


def pretrain(out: Path, **changes: Any) -> None:
    config = PretrainConfig(**{"epochs": 1, "validation_episodes": 2, **changes.pop("config", {})})
    given = {
        "benchmark": "omniglot", "data": None, "image_size": 16, "backbone": "conv4", "workers": 1, "device": "cpu",
        "threads": 1, "command": ["job"],
    }  # fmt: skip
    run_pretraining(out=out, config=config, **{**given, **changes})


@pytest.fixture(autouse=True)
def cache(cache_dir, monkeypatch):
    monkeypatch.setenv("RAYFS_CACHE", str(cache_dir))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": -1}, "--workers is -1 and --threads 1; expected 0 or more"),
        ({"threads": -1}, "--workers is 1 and --threads -1; expected 0 or more"),
        ({"workers": 3}, "a batch of 64 images cannot be shared evenly by 3 workers"),
        ({"backbone": "vgg"}, "unknown backbone 'vgg'"),
        ({"config": {"objective": "skd-gen1"}}, "--objective skd-gen1 distils from a teacher; give --teacher"),
        ({"config": {"validation_n_way": 30}}, "has 17 classes but the protocol asks for 30-way"),
    ],
)
def test_wrong_input_is_refused_before_ray_starts(tmp_path, monkeypatch, changes, message):
    def started() -> str:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("rayfs.experiments.training.job.ray_session", started)
    with pytest.raises(InputError, match=message):
        pretrain(tmp_path / "a.safetensors", **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "tpu"}, "--device is 'tpu'; expected auto, cpu or cuda"),
        ({"device": "cuda", "workers": 2}, "--device is 'cuda' for 2 workers but the cluster has 0 GPUs"),
        ({"workers": 64}, r"--workers is 64 with 1 CPUs each, but the cluster has room for 2 \(2 CPUs, 0 GPUs\)"),
    ],
)
def test_more_than_the_cluster_has_is_refused(resources, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        pretrain(tmp_path / "a.safetensors", **changes)
    assert {path.name for path in tmp_path.iterdir()} <= {".a.lock"}


def test_second_process_with_the_same_out_waits_and_is_refused(tmp_path):
    out = tmp_path / "a.safetensors"
    refused = pytest.raises(InputError, match="another process is writing this run")
    with only_writer(out), refused, only_writer(out, patience_s=0.5):
        pass
    with only_writer(out, patience_s=0):
        pass


def test_litter_of_a_killed_run_is_cleared_and_nothing_else(tmp_path):
    (tmp_path / ".a.ray-123" / "training").mkdir(parents=True)
    (tmp_path / ".b.ray-123").mkdir()
    clear_litter(tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == [".b.ray-123"]


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # Ray sets its own deprecated options
def test_worker_that_does_not_share_the_folder_says_so(resources, tmp_path, monkeypatch, capsys):
    """The file that the driver leaves is not there: as on a node with a disk of its own."""
    monkeypatch.setattr(Path, "touch", lambda self: None)
    with pytest.raises(InputError, match=r"a worker on node .* does not see .*; give an --out, and a RAYFS_CACHE"):
        pretrain(tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == [".a.lock"]


@pytest.mark.parametrize(
    ("name", "workers", "nodes", "expected"),
    [
        ("auto", 1, ((4, 1),), "cuda"),
        ("auto", 2, ((4, 1),), "cpu"),
        ("auto", 2, ((4, 1), (4, 1)), "cuda"),
        ("cpu", 1, ((4, 1),), "cpu"),
        ("cuda", 1, ((4, 1),), "cuda"),
        ("auto", 1, ((4, 0),), "cpu"),
    ],
)
def test_auto_takes_gpus_where_there_is_one_for_every_worker(name, workers, nodes, expected):
    assert pick_device(name, workers, Resources(nodes=nodes)) == expected


@pytest.mark.parametrize(("gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_without_ray_auto_asks_torch(monkeypatch, gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert pick_device("auto", 0, None) == expected


@pytest.mark.parametrize(
    ("nodes", "workers", "gpu", "expected"),
    [
        (((2, 0),), 1, False, 2),
        (((2, 0),), 2, False, 1),
        (((4, 0), (2, 0)), 2, False, 2),
        (((1, 0),), 4, False, 1),
        (((64, 0), (8, 1)), 1, True, 8),
        (((64, 0), (8, 2)), 2, True, 4),
    ],
)
def test_cpus_are_shared_evenly_by_workers_that_fit_on_nodes(nodes, workers, gpu, expected):
    assert even_share(Resources(nodes=nodes), workers, gpu) == expected


def test_mailbox_tells_of_deaths_and_remembers_a_refusal():
    mailbox = Mailbox()
    assert mailbox.start(0) and mailbox.start(1) and mailbox.take() == []
    assert mailbox.start(0) and mailbox.take() == [("line", "a worker failed or died; attempt 2")]
    assert mailbox.attempts() == 2
    mailbox.put("line", "epoch 1")
    mailbox.put("refused", "why")
    assert not mailbox.start(0) and not mailbox.start(1)
    assert mailbox.take() == [("line", "epoch 1"), ("refused", "why")] and mailbox.take() == []
