"""A worker whose GPU is lost makes room for a new one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rayfs.datasets.episodes import Episode, Protocol
from rayfs.methods.variants import method_settings
from rayfs.workers.episode_worker import EpisodeWorker, gpu_is_lost


@pytest.fixture
def failing(gpu) -> tuple[EpisodeWorker, Episode]:
    """A worker on a GPU that has no images, and an episode."""
    protocol = Protocol(n_way=2, n_shot=1, n_query=1, split="test")
    spec = SimpleNamespace(methods=method_settings(("lr",), "omniglot", 2, 1, {}), protocol=protocol)
    worker = EpisodeWorker(spec)
    worker._world, worker._novel = SimpleNamespace(device=gpu), None
    rows = np.zeros((2, 1), dtype=np.int64)
    return worker, Episode(index=0, class_ids=np.arange(2), support_ids=rows, query_ids=rows)


def test_episode_that_fails_is_a_row(failing) -> None:
    worker, episode = failing
    row = worker._solve(episode, "logistic-regression", 1)
    assert row.status == "failed" and "Traceback" in row.error


def test_worker_that_has_lost_its_gpu_ends_when_it_is_prepared_again(failing, monkeypatch) -> None:
    worker, episode = failing
    assert "/" in worker.prepare()

    def lost(device: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    monkeypatch.setattr("os._exit", end)
    assert worker._solve(episode, "logistic-regression", 1).status == "failed", (
        "what failed, and how, is known all the same"
    )
    with pytest.raises(SystemExit, match="1"):
        worker.prepare()
    assert not gpu_is_lost(torch.device("cpu"))
