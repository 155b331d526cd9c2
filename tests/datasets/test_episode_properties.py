"""Any protocol on any table: its episodes keep every promise, or it is refused with the numbers."""

import numpy as np
from corruption import FUZZ
from hypothesis import example, given
from hypothesis import strategies as st

from rayfs.datasets.episode_file import decode_episode_file, encode_episode_file
from rayfs.datasets.episodes import Protocol, check_protocol, draw_episode
from rayfs.errors import InputError

COUNTS = st.lists(st.integers(0, 12), max_size=9)
SIZES = st.tuples(st.integers(-1, 10), st.integers(-1, 8), st.integers(-1, 8))


@FUZZ
@given(SIZES, COUNTS, st.integers(-(2**70), 2**70), st.integers(0, 2**63))
@example((3, 1, 1), [5, 5], 0, 0)
@example((3, 1, 1), [2, 2, 2], 0, 0)
@example((3, 1, 2), [3, 2, 3], 0, 0)
@example((2, 8, 4), [12, 12], -1, 2**63)
def test_an_episode_is_drawn_with_all_that_is_promised_or_refused_with_the_numbers(
    sizes: tuple[int, int, int], counts: list[int], seed: int, index: int
) -> None:
    n_way, n_shot, n_query = sizes
    possible = n_way >= 2 and n_shot >= 1 and n_query >= 1 and len(counts) >= n_way and min(counts) >= n_shot + n_query
    try:
        protocol = Protocol(n_way=n_way, n_shot=n_shot, n_query=n_query, split="test", seed=seed)
        check_protocol(protocol, [f"class {c}" for c in range(len(counts))], np.array(counts))
    except InputError as error:
        assert not possible
        asked = {n_way} if n_way < 2 else {n_shot, n_query} if min(n_shot, n_query) < 1 else {n_way, n_shot + n_query}
        assert any(str(number) in str(error) for number in asked)
        return
    assert possible
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    episode = draw_episode(offsets, "table", protocol, index)
    assert len(set(episode.class_ids.tolist())) == n_way
    assert episode.support_ids.shape == (n_way, n_shot) and episode.query_ids.shape == (n_way, n_query)
    rows = np.concatenate([episode.support_ids, episode.query_ids], axis=1)
    assert len(np.unique(rows)) == rows.size, "support and query are disjoint, and no image comes twice"
    owners = np.searchsorted(offsets, rows, side="right") - 1
    assert (owners == episode.class_ids[:, None]).all(), "every row is of the class of its label"
    assert draw_episode(offsets, "table", protocol, index).hash == episode.hash


@FUZZ
@given(
    st.integers(2, 6), st.integers(1, 4), st.integers(1, 4), st.lists(st.integers(0, 2**62), unique=True, min_size=1)
)
def test_what_is_drawn_passes_the_checks_of_a_manifest(
    n_way: int, n_shot: int, n_query: int, indices: list[int]
) -> None:
    protocol = Protocol(n_way=n_way, n_shot=n_shot, n_query=n_query, split="base")
    offsets = np.arange(0, 71, 10)
    episodes = [draw_episode(offsets, "table", protocol, index) for index in indices]
    found = decode_episode_file(
        encode_episode_file(episodes, protocol, "table", [str(c) for c in range(7)]), "e.parquet"
    )
    assert [(e.index, e.hash) for e in found.episodes] == [(e.index, e.hash) for e in episodes]
