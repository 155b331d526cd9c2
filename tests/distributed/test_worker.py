"""A worker whose GPU is lost makes room for a new one, and costs its episode one attempt."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rayfs.benchmarks.episodes import Episode, Protocol
from rayfs.distributed.worker import EpisodeWorker, gpu_is_lost
from rayfs.methods.recipes import method_configs


@pytest.fixture
def failing(gpu) -> tuple[EpisodeWorker, Episode]:
    """A worker on a GPU that has no images, and an episode."""
    protocol = Protocol(n_way=2, n_shot=1, n_query=1, split="test")
    spec = SimpleNamespace(methods=method_configs(("lr",), "omniglot", 2, 1, {}), protocol=protocol)
    worker = EpisodeWorker(spec)
    worker._world, worker._novel = SimpleNamespace(device=gpu), None
    rows = np.zeros((2, 1), dtype=np.int64)
    return worker, Episode(index=0, class_ids=np.arange(2), support_rows=rows, query_rows=rows)


def test_episode_that_fails_is_a_row(failing) -> None:
    worker, episode = failing
    row = worker._solve(episode, "lr", 1)
    assert row.status == "failed" and "Traceback" in row.error


def test_worker_ends_where_an_error_has_cost_it_its_gpu(failing, monkeypatch, capfd) -> None:
    worker, episode = failing

    def lost(device: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    monkeypatch.setattr("os._exit", end)
    with pytest.raises(SystemExit, match="1"):
        worker._solve(episode, "lr", 1)
    assert "Traceback" in capfd.readouterr().err
    assert not gpu_is_lost(torch.device("cpu"))
