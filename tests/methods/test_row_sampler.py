"""Mini-batches of rows: passes without replacement, incomplete batches dropped."""

import pytest
import torch

from rayfs.methods.finetuning.base_rows import RowSampler
from rayfs.randomness import torch_generator


def sampler(n_rows: int, batch: int, seed: int = 0) -> RowSampler:
    return RowSampler(n_rows, batch, torch_generator(seed, "base rows"))


def one_pass(drawer: RowSampler, n_batches: int) -> torch.Tensor:
    return torch.cat([drawer.draw() for _ in range(n_batches)])


def test_every_row_comes_once_a_pass():
    assert one_pass(sampler(12, 4), 3).sort().values.tolist() == list(range(12))


def test_incomplete_batch_is_dropped():
    drawer = sampler(14, 4)
    first, second = one_pass(drawer, 3), one_pass(drawer, 3)
    for rows in (first, second):
        assert rows.unique().numel() == 12
        assert rows.dtype == torch.int64


def test_cifar_fs_gives_307_batches_of_125_and_then_starts_anew():
    drawer = sampler(38_400, 125)
    rows = one_pass(drawer, 307)
    assert rows.unique().numel() == 307 * 125
    left_out = set(range(38_400)) - set(rows.tolist())
    assert len(left_out) == 25
    assert left_out & set(one_pass(drawer, 307).tolist()), "the second pass has another order"


def test_next_pass_is_shuffled_again():
    drawer = sampler(60, 20)
    first, second = one_pass(drawer, 3), one_pass(drawer, 3)
    assert first.tolist() != second.tolist()
    assert first.sort().values.tolist() == second.sort().values.tolist()


def test_rows_depend_on_the_seed_alone():
    assert one_pass(sampler(30, 7), 9).tolist() == one_pass(sampler(30, 7), 9).tolist()
    assert one_pass(sampler(30, 7), 9).tolist() != one_pass(sampler(30, 7, seed=1), 9).tolist()


def test_batch_of_all_rows_is_a_permutation_each_time():
    drawer = sampler(5, 5)
    for _ in range(3):
        assert sorted(drawer.draw().tolist()) == [0, 1, 2, 3, 4]


def test_batch_larger_than_all_rows_is_refused():
    with pytest.raises(ValueError, match="a batch of 6 images was asked of 5"):
        sampler(5, 6)
