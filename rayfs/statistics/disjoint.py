"""Disjoint episodes: a subset in which no image is in two episodes, for intervals without replacement.

An interval over all episodes takes them for independent observations. Drawn from a finite set they share images, so the
interval says where the mean over all possible episodes of *these* images lies: with ever more episodes it shrinks to
nothing, though not one new image was seen. As a statement about new images it is too narrow. Episodes that share no
image have no such ties, and there are only as many as the images last for. (They still share classes: no interval here
speaks about new classes.)

R. Lafargue, L. Smith, F. Vermet, M. Löwe, I. Reid, J. Valmadre, V. Gripon: Oops, I Sampled it Again: Reinterpreting
Confidence Intervals in Few-Shot Learning. TMLR 2024, arxiv.org/abs/2409.02850.
"""

from collections.abc import Collection, Iterable, Mapping

from rayfs.datasets.episodes import Episode


def disjoint_episodes(episodes: Iterable[str], images: Mapping[str, Collection[int]]) -> list[str]:
    """Return, in order, each of `episodes` that shares no image with one returned before it.

    Greedy: no episode can be added to the result, but another choice might hold more. No accuracy is looked at, so the
    choice does not bend the figures. No randomness is used.

    Arguments:
        episodes: hashes, in the order of the episodes' numbers.
        images: hash -> rows of the image table, support and query; for every one of `episodes`.
    """
    used: set[int] = set()
    kept = []
    for episode in episodes:
        if used.isdisjoint(images[episode]):
            used.update(images[episode])
            kept.append(episode)
    return kept


def images_of(episodes: Iterable[Episode]) -> dict[str, list[int]]:
    """Return episode hash -> rows of the image table that its support and query images are."""
    return {
        episode.hash: [*episode.support_ids.ravel().tolist(), *episode.query_ids.ravel().tolist()]
        for episode in episodes
    }
