"""Let a constructor that draws from torch's global random state draw from an explicit generator instead."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

N_SEEDS = 2**32
"""torch's CPU generator keeps 32 bits of a seed."""


@contextmanager
def global_draws_from(generator: torch.Generator) -> Iterator[None]:
    """Seed the global CPU state for the block with one draw of `generator`, and put the old state back afterwards.

    For the constructors of torchvision and timm, which take no generator. Tensors of the block are made on the CPU. The
    states of accelerators are not touched: torch.manual_seed would seed those as well, so it is not used.

    Arguments:
        generator: on the CPU; it advances by the one draw, whatever the block draws.
    """
    seed = int(torch.randint(N_SEEDS, (), generator=generator, device="cpu"))
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield
