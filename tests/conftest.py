"""Settings of every test: no cache and no data of the user's, one thread, as a worker has; one Ray for all."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from pretended_gpu import pretended_gpu

from rayfs.distributed.session import Resources
from rayfs.experiments.episodes.experiment import Experiment
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.episodes.job import build_experiment
from rayfs.flags.parsing import configured
from rayfs.runs.rows import Row

torch.set_num_threads(1)
hypothesis.settings.register_profile("rayfs", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("rayfs")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background jobs; the jobs under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["RAYFS_CACHE"] = str(tmp_path_factory.mktemp("rayfs-cache"))


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """The GPU of this machine, or a pretended one."""
    if torch.cuda.is_available():
        yield torch.device("cuda")
    else:
        with pretended_gpu() as device:
            yield device


@pytest.fixture(scope="session")
def resources() -> Iterator[Resources]:
    """A private local cluster with room for two workers, whatever the machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        patch.setattr("os.sched_getaffinity", lambda pid: {0, 1}, raising=False)
        import ray

        from rayfs.distributed.session import cluster_resources, connect

        assert connect() == "local"
    yield cluster_resources()
    ray.shutdown()


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def experiment(cache_dir: Path) -> Experiment:
    """Five-way one-shot episodes of validation characters of Omniglot, two steps each."""
    config = configured(
        EvalConfig, split="validation", n_way=5, n_shot=1, n_query=3, episodes=6, steps=2, support_views=2, check=True
    )
    return build_experiment(config, cache_dir)


@pytest.fixture(scope="session")
def make_row() -> Callable[..., Row]:
    """Return a function that makes an ok row (or, given accuracy=None, a failed one)."""

    def make(episode: int = 0, method: str = "logistic-regression", accuracy: float | None = 0.8, **fields: Any) -> Row:
        failed = {"error": "Traceback: boom"} if accuracy is None else {"predictions": [0, 1, 2], "labels": [0, 1, 1]}
        defaults = {
            "status": "failed" if accuracy is None else "ok",
            "seconds": 1.5,
            "episode_hash": f"hash-{episode}",
            "config_hash": f"config-{method}",
        }
        return Row(**({"episode": episode, "method": method, "accuracy": accuracy} | defaults | failed | fields))

    return make
