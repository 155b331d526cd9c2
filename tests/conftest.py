"""Settings of every test: no cache and no data of the user's, one thread, as a worker has; one Ray for all."""

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest
import torch
from pretended_gpu import pretended_gpu

from rayfs.distributed.runtime import Resources

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

        from rayfs.distributed.runtime import cluster_resources, connect

        assert connect() == "local"
    yield cluster_resources()
    ray.shutdown()
