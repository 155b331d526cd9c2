"""Process settings: threads, and a user's own environment that stays as it is."""

import os
from collections.abc import Iterator

import pytest
import torch

from rayfs.engine.process import ALLOCATOR_ENV, configure_process


@pytest.fixture
def torch_settings() -> Iterator[None]:
    n_threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(n_threads)
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.benchmark = benchmark


@pytest.mark.parametrize("n_threads", [2, 1])
def test_process_gets_the_threads_it_was_given(n_threads, torch_settings):
    configure_process(n_threads)
    assert torch.get_num_threads() == n_threads


def test_allocator_setting_of_the_user_wins(monkeypatch, torch_settings):
    (name,) = ALLOCATOR_ENV
    monkeypatch.setenv(name, "0")
    configure_process(1)
    assert os.environ[name] == "0"
    monkeypatch.delenv(name)
    configure_process(1)
    assert os.environ[name] == ALLOCATOR_ENV[name]


def test_large_tensors_still_come_and_go(torch_settings):
    configure_process(1)
    for _ in range(3):
        assert torch.ones(1 << 20).sum().item() == 1 << 20
