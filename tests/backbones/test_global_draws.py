"""Foreign constructors draw from the given generator, and the global state is as it was."""

import pytest
import torch

from rayfs.backbones.global_draws import global_draws_from
from rayfs.randomness import torch_generator


def draws(seed: int) -> torch.Tensor:
    with global_draws_from(torch_generator(seed, "weights")):
        return torch.rand(4)


def test_draws_of_the_block_depend_on_the_generator_alone():
    first = draws(1)
    torch.rand(1)  # moves the global stream, which must not matter
    assert torch.equal(first, draws(1))
    assert not torch.equal(first, draws(2))


def test_global_state_is_the_same_after_the_block_and_after_an_error_in_it():
    before = torch.get_rng_state()
    draws(1)
    with pytest.raises(RuntimeError, match="inside"), global_draws_from(torch_generator(1, "weights")):
        torch.rand(1)
        raise RuntimeError("inside")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_generator_advances_by_one_draw_whatever_the_block_draws():
    states = []
    for n_draws in (0, 1000):
        generator = torch_generator(1, "weights")
        with global_draws_from(generator):
            torch.rand(n_draws)
        states.append(generator.get_state())
    assert torch.equal(*states)
    assert not torch.equal(states[0], torch_generator(1, "weights").get_state())


def test_no_accelerator_is_seeded(monkeypatch):
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    torch.manual_seed(torch.initial_seed())  # what the code must not do: it would be seen
    assert len(seeds) == 1
    draws(1)
    assert len(seeds) == 1
