"""Raw streams against the published algorithms, written naively; generators by name."""

import hashlib
import itertools

import numpy as np
import pytest
import torch

from rayfs.randomness import EpisodeRandomness, RawStream, torch_generator

WORD = (1 << 64) - 1


def naive_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x64-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), one block."""
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = [
            (second >> 64) ^ counter[1] ^ key[0],
            second & WORD,
            (first >> 64) ^ counter[3] ^ key[1],
            first & WORD,
        ]
        key = [(key[0] + 0x9E3779B97F4A7C15) & WORD, (key[1] + 0xBB67AE8584CAA73B) & WORD]
    return counter


def words(stream: RawStream, n: int) -> list[int]:
    return [stream.below(1 << 64) for _ in range(n)]


class Stub:
    """A bit generator that gives the values it was told."""

    def __init__(self, values: list[int]) -> None:
        self.values = values

    def random_raw(self) -> int:
        return self.values.pop(0)


def stream_of(values: list[int]) -> RawStream:
    stream = RawStream("any")
    stream._philox = Stub(values)
    return stream


# Raw output


@pytest.mark.parametrize("index", [0, 1, 599, 2**32, 2**63, 2**64 - 1])
def test_stream_is_philox_keyed_by_the_hash_of_its_name_and_counted_by_its_index(index):
    key = hashlib.blake2b(b"any name", digest_size=16).digest()
    key_words = [int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")]
    blocks = [naive_philox([1 + block, 0, index, 0], key_words) for block in range(3)]
    assert words(RawStream("any name", index), 12) == list(itertools.chain.from_iterable(blocks))


def test_streams_of_other_names_or_indices_share_no_word():
    streams = [RawStream(name, index) for name in ("a", "b") for index in (0, 1, 2, 2**63, 2**63 + 1)]
    drawn = [word for stream in streams for word in words(stream, 100)]
    assert len(set(drawn)) == 1_000


@pytest.mark.parametrize("index", [-1, 2**64])
def test_an_index_that_is_no_64_bit_number_is_refused(index):
    with pytest.raises(OverflowError):
        RawStream("any", index)


# Integers below a bound


def test_below_is_the_remainder_of_the_raw_value():
    assert stream_of([0, 9, 10, 12_345]).below(10) == 0
    stream = stream_of([0, 9, 10, 12_345])
    assert [stream.below(10) for _ in range(4)] == [0, 9, 0, 5]


def test_below_rejects_what_is_past_the_last_whole_multiple():
    """2^64 = 10 * 1844674407370955161 + 6: the six largest raw values would favour the remainders 0 to 5."""
    largest_kept = (1 << 64) - 7
    stream = stream_of([largest_kept + 1, WORD, largest_kept, 3])
    assert [stream.below(10), stream.below(10)] == [9, 3]


@pytest.mark.parametrize("bound", [1, 2, 1 << 63, 1 << 64])
def test_below_rejects_nothing_where_the_bound_divides_the_range(bound):
    assert stream_of([WORD]).below(bound) == bound - 1


def test_below_rejects_almost_half_where_the_bound_is_just_over_half_the_range():
    bound = (1 << 63) + 1
    stream = stream_of([bound, WORD, bound - 1])
    assert stream.below(bound) == bound - 1
    assert stream._philox.values == []


@pytest.mark.parametrize("bound", [0, -3, (1 << 64) + 1])
def test_bounds_that_nothing_is_below_or_a_word_cannot_reach_are_refused(bound):
    with pytest.raises(ValueError, match=rf"^bound must be 1 to 2\^64, got {bound}$"):
        RawStream("any").below(bound)


def test_below_is_uniform():
    stream = RawStream("uniform")
    counts = np.bincount([stream.below(7) for _ in range(14_000)], minlength=7)
    assert ((counts - 2_000) ** 2 / 2_000).sum() < 22.5  # the 99.9% point of chi-square with 6 degrees of freedom


# Samples


@pytest.mark.parametrize(("population", "n"), [(1, 1), (5, 5), (20, 5), (600, 16), (1_000, 1_000)])
def test_sample_is_the_head_of_a_shuffle_of_the_whole_population(population, n):
    naive, draws = list(range(population)), RawStream("sample")
    for position in range(n):
        other = position + draws.below(population - position)
        naive[position], naive[other] = naive[other], naive[position]
    assert RawStream("sample").sample(population, n) == naive[:n]


def test_sample_by_hand():
    """0 1 2 3 4: swap 0 and 3, swap 1 and 3, swap 2 and 2."""
    assert stream_of([3, 2, 0]).sample(5, 3) == [3, 0, 2]


def test_every_ordered_sample_is_equally_likely():
    stream = RawStream("uniform")
    counts: dict[tuple[int, ...], int] = dict.fromkeys(itertools.permutations(range(4), 2), 0)
    for _ in range(6_000):
        counts[tuple(stream.sample(4, 2))] += 1
    assert sum((n - 500) ** 2 / 500 for n in counts.values()) < 31.3  # 99.9% point, 11 degrees of freedom


def test_a_sample_larger_than_its_population_is_refused():
    with pytest.raises(ValueError, match=r"^cannot draw 6 distinct values out of 5$"):
        RawStream("any").sample(5, 6)


# Generators


def test_generator_depends_on_seed_stream_and_index_alone():
    arguments = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), (-1, "a", 0), (2**70, "a", 0)]
    drawn = [torch.rand(4, generator=torch_generator(*argument)).tolist() for argument in arguments]
    assert len({tuple(values) for values in drawn}) == len(arguments)
    assert drawn == [torch.rand(4, generator=torch_generator(*argument)).tolist() for argument in arguments]


def test_generators_leave_the_global_one_alone():
    before = torch.get_rng_state()
    torch.rand(4, generator=torch_generator(0, "a"))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_purpose_of_an_episode_has_its_own_draws_and_every_method_the_same():
    randomness = EpisodeRandomness(seed=3, index=5)
    purposes = ["support views", "base batches"]
    first = {purpose: torch.rand(4, generator=randomness.generator(purpose)) for purpose in purposes}
    again = {purpose: torch.rand(4, generator=randomness.generator(purpose)) for purpose in purposes[::-1]}
    assert all(torch.equal(first[purpose], again[purpose]) for purpose in purposes)
    assert not torch.equal(*first.values())
