"""Disjoint episodes: by hand, and against a naive search over pairs."""

from hypothesis import given
from hypothesis import strategies as st

from rayfs.datasets.episodes import Protocol, draw_episode
from rayfs.statistics.disjoint import disjoint_episodes, images_of

OFFSETS = [0, 40, 80, 120, 160]
image_sets = st.lists(st.sets(st.integers(0, 30), min_size=1, max_size=6), max_size=20)


def test_each_episode_that_shares_no_image_with_an_earlier_one_is_kept() -> None:
    images = {"a": [1, 2], "b": [2, 3], "c": [3, 4], "d": [4, 5], "e": [6]}
    assert disjoint_episodes("abcde", images) == ["a", "c", "e"], "b was not kept, so its image 3 is free for c"
    assert disjoint_episodes("badce", images) == ["b", "d", "e"], "another order is another choice"
    assert disjoint_episodes([], images) == []


@given(image_sets)
def test_no_image_is_in_two_kept_episodes_and_no_episode_could_be_added(sets: list[set[int]]) -> None:
    images = {str(i): sorted(images) for i, images in enumerate(sets)}
    kept = disjoint_episodes(images, images)
    naive: list[str] = []
    for episode in images:
        if not any(image in images[other] for other in naive for image in images[episode]):
            naive.append(episode)
    assert kept == naive
    for i, episode in enumerate(kept):
        assert all(set(images[episode]).isdisjoint(images[other]) for other in kept[:i])
    for episode in images.keys() - set(kept):
        assert any(set(images[episode]) & set(images[other]) for other in kept)


def test_drawn_episodes_are_disjoint_in_support_and_query() -> None:
    import numpy as np

    protocol = Protocol(n_way=2, n_shot=1, n_query=3, split="test")
    episodes = [draw_episode(np.array(OFFSETS), "table", protocol, i) for i in range(60)]
    images = images_of(episodes)
    kept = disjoint_episodes([episode.hash for episode in episodes], images)
    assert 2 <= len(kept) <= 160 // 8, "160 images are enough for 20 episodes of 8 at the very most"
    rows = [row for episode in kept for row in images[episode]]
    assert len(rows) == 8 * len(kept) == len(set(rows))
    first = episodes[0]
    expected = {int(row) for array in (first.support_ids, first.query_ids) for row in array.ravel()}
    assert set(images[first.hash]) == expected
