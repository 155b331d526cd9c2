"""Dropout and DropBlock: tables worked by hand, a naive loop, and where the randomness comes from."""

import pytest
import torch

from rayfs.backbones.regularisation import (
    DropBlock,
    Dropout,
    drop_probability,
    expand_blocks,
    reset_ramp,
    seed_rate,
    set_generator,
)
from rayfs.randomness import torch_generator


@pytest.mark.parametrize(
    ("n_forwards", "keep"),
    [(0, 1.0), (1, 0.9999975), (307, 0.9992325), (20_000, 0.95), (40_000, 0.9), (40_001, 0.9), (1_000_000, 0.9)],
)
def test_keep_probability_falls_to_its_floor_over_40000_forwards(n_forwards, keep):
    drop = drop_probability(torch.tensor(n_forwards), drop_rate=0.1)
    assert drop.item() == pytest.approx(1 - keep, rel=1e-6)


@pytest.mark.parametrize(
    ("block_size", "height", "width", "gamma"),
    [
        (5, 10, 10, 0.1 / 25 * 100 / 36),  # third block at 84 pixels: 0.0111
        (5, 5, 5, 0.1),  # fourth block at 84 pixels: one position, the whole map
        (2, 4, 4, 0.1 / 4 * 16 / 9),  # third block at 32 pixels: 0.0444
        (2, 2, 2, 0.1),
        (1, 7, 7, 0.1),  # plain dropout
        (2, 4, 3, 0.1 / 4 * 12 / 6),
    ],
)
def test_seed_rate_follows_the_formula(block_size, height, width, gamma):
    assert seed_rate(torch.tensor(0.1), block_size, height, width).item() == pytest.approx(gamma, rel=1e-6)


def test_mask_worked_by_hand():
    seeds = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 1]])[None, None]
    expected = [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 1],
        [0, 0, 1, 1],
    ]
    assert expand_blocks(seeds, 2)[0, 0].tolist() == expected


@pytest.mark.parametrize(("block_size", "height", "width"), [(1, 4, 4), (2, 5, 4), (3, 7, 7), (5, 5, 5), (5, 10, 10)])
def test_mask_equals_a_loop_over_seeds(block_size, height, width):
    shape = (2, 3, height - block_size + 1, width - block_size + 1)
    seeds = (torch.rand(shape, generator=torch_generator(0, "seeds")) < 0.2).float()
    expected = torch.zeros(2, 3, height, width)
    for n, c, i, j in seeds.nonzero().tolist():
        expected[n, c, i : i + block_size, j : j + block_size] = 1
    assert torch.equal(expand_blocks(seeds, block_size), expected)


def full_rate_dropblock(drop_rate: float = 0.3, block_size: int = 2, seed: int = 0) -> DropBlock:
    module = DropBlock(drop_rate, block_size).train()
    set_generator(module, torch_generator(seed, "dropblock"))
    reset_ramp(module, 1_000_000)
    return module


def test_dropblock_zeroes_squares_and_rescales_to_the_same_mean():
    out = full_rate_dropblock()(torch.ones(8, 4, 6, 6))
    kept = out != 0
    assert out[kept].unique().numel() == 1
    assert out.mean().item() == pytest.approx(1, rel=1e-5)
    assert out.max().item() == pytest.approx(kept.numel() / kept.sum().item(), rel=1e-5)
    dropped = (~kept).float()
    whole_squares = -torch.nn.functional.max_pool2d(-dropped, 2, stride=1)
    assert torch.equal(expand_blocks(whole_squares, 2), dropped)


def test_dropblock_drops_about_its_drop_rate():
    out = full_rate_dropblock(drop_rate=0.1, block_size=2)(torch.ones(64, 64, 10, 10))
    gamma = 0.1 / 4 * 100 / 81  # An inner unit lies in 4 possible blocks, an edge unit in 2, a corner in 1.
    expected = (64 * (1 - (1 - gamma) ** 4) + 32 * (1 - (1 - gamma) ** 2) + 4 * gamma) / 100
    assert (out == 0).float().mean().item() == pytest.approx(expected, abs=0.004)


def test_dropblock_advances_its_ramp_in_training_only():
    module = DropBlock(0.1, 2)
    set_generator(module, torch_generator(0, "dropblock"))
    maps = torch.ones(1, 1, 4, 4)
    module.train()(maps)
    module.eval()(maps)
    module.train()(maps)
    assert module.n_forwards.item() == 2
    reset_ramp(module)
    assert module.n_forwards.item() == 0
    reset_ramp(module, n_forwards=307)
    assert module.n_forwards.item() == 307


def test_ramp_is_not_part_of_the_weights():
    assert DropBlock(0.1, 2).state_dict() == {}


def test_first_training_forward_counts_as_one():
    module = DropBlock(drop_rate=0.5, block_size=1).train()
    set_generator(module, torch_generator(0, "dropblock"))
    out = module(torch.ones(16, 64, 50, 50))  # 2.56 million units at 0.5 / 40000: 32 expected
    assert 10 <= (out == 0).sum().item() <= 60


def test_block_larger_than_the_map_is_cut_to_the_map():
    out = full_rate_dropblock(drop_rate=0.5, block_size=5)(torch.ones(64, 8, 1, 1))
    assert 0.3 < (out == 0).float().mean().item() < 0.7


def test_dropblock_that_drops_everything_gives_zeros():
    out = full_rate_dropblock(drop_rate=1.0, block_size=2)(torch.ones(1, 1, 2, 2))
    assert out.tolist() == torch.zeros(1, 1, 2, 2).tolist()


def test_dropout_keeps_the_expectation():
    module = Dropout(0.25).train()
    set_generator(module, torch_generator(0, "dropout"))
    out = module(torch.ones(8, 16, 20, 20))
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("make", [lambda: Dropout(0.5), lambda: DropBlock(0.5, 2)])
class TestBoth:
    def run(self, make, seed, maps, ramp=1_000_000):
        module = make().train()
        set_generator(module, torch_generator(seed, "noise"))
        reset_ramp(module, ramp)
        return module(maps)

    def test_draws_are_reproducible_from_the_generator(self, make):
        maps = torch.ones(2, 3, 6, 6)
        assert torch.equal(self.run(make, 1, maps), self.run(make, 1, maps))
        assert not torch.equal(self.run(make, 1, maps), self.run(make, 2, maps))

    def test_global_random_state_is_untouched(self, make):
        before = torch.get_rng_state()
        self.run(make, 1, torch.ones(2, 3, 6, 6))
        assert torch.equal(torch.get_rng_state(), before)

    def test_memory_layout_changes_neither_the_mask_nor_itself(self, make):
        maps = torch.rand(2, 3, 6, 6, generator=torch_generator(0, "maps"))
        in_channels_last = maps.contiguous(memory_format=torch.channels_last)
        out = self.run(make, 1, in_channels_last)
        assert torch.equal(out, self.run(make, 1, maps))
        assert out.is_contiguous(memory_format=torch.channels_last)

    def test_evaluation_returns_the_maps_themselves(self, make):
        maps = torch.ones(2, 3, 6, 6)
        assert make().eval()(maps) is maps

    def test_half_precision_stays_half_precision(self, make):
        assert self.run(make, 1, torch.ones(2, 3, 6, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16

    def test_missing_generator_is_an_error_that_says_what_to_call(self, make):
        with pytest.raises(RuntimeError, match=r"has no generator: call rayfs.backbones.set_generator"):
            make().train()(torch.ones(1, 1, 4, 4))
