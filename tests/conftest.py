"""Settings of every test: no cache and no data of the user's, one thread, as a worker has."""

import os
import signal

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("rayfs", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("rayfs")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background jobs; the jobs under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["RAYFS_CACHE"] = str(tmp_path_factory.mktemp("rayfs-cache"))
