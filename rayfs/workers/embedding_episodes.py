"""Run the classifiers of an embedding over episodes, a block of them at a time, and make their rows."""

import os
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch

from rayfs.datasets.episodes import Episode
from rayfs.engine.bank import BaseBank
from rayfs.hashing import stable_hash
from rayfs.methods.classifiers.definition import ClassifierSettings
from rayfs.methods.classifiers.predict import predict, prepare_features
from rayfs.runs.rows import Row
from rayfs.workers.episode_worker import device_name

BLOCK = 250
"""Most episodes solved together: enough to fill the batched code, and a part file each."""

BLOCK_BYTES = 256 << 20
"""Most bytes of their features in float64, of which a few copies are made: 250 episodes of 125 + 75 rows of 640."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Episodes in a row that lack the same classifiers."""

    episodes: Sequence[Episode]
    classifiers: tuple[str, ...]


def missing_blocks(
    episodes: Sequence[Episode], classifiers: Sequence[str], completed: set[tuple[int, str]], size: int
) -> Iterator[Block]:
    """Yield what is left to do, in the order of the episodes, at most `size` of them at a time."""

    def missing(episode: Episode) -> tuple[str, ...]:
        return tuple(name for name in classifiers if (episode.index, name) not in completed)

    for names, group in groupby(episodes, key=missing):
        members = list(group)
        if names:
            for start in range(0, len(members), size):
                yield Block(episodes=members[start : start + size], classifiers=names)


class BlockSolver:
    """Solves blocks with the features of one embedding.

    Arguments:
        plain: the bank of the images, which queries come from.
        support: the bank of their views, (N, V, D), or again of the images.
        methods: the configurations by name; all on the same features.
    """

    def __init__(
        self, plain: BaseBank, support: BaseBank, methods: Mapping[str, ClassifierSettings], device: torch.device
    ) -> None:
        self._plain, self._support, self._methods, self._device = plain, support, methods, device
        self._normalize = next(iter(methods.values())).normalize
        self._hashes = {name: stable_hash(config) for name, config in methods.items()}
        self._whereabouts = {"device": device_name(device), "node": os.uname().nodename, "worker": str(os.getpid())}
        self.seconds: dict[str, float] = defaultdict(float)
        """What the features and each classifier took so far."""

    def block_size(self, episode: Episode) -> int:
        """Return how many episodes like this one are solved together."""
        n_numbers = episode.support_ids.size * self._support.features[0].size
        n_numbers += episode.query_ids.size * self._plain.features[0].size
        return max(1, min(BLOCK, BLOCK_BYTES // (8 * int(n_numbers))))

    def solve(self, block: Block) -> list[Row]:
        """Return a row for each episode and classifier of the block."""
        started = time.perf_counter()
        features = self._features(block.episodes)
        self.seconds["features"] += time.perf_counter() - started
        return [row for name in block.classifiers for row in self._rows(name, block.episodes, features)]

    def _features(self, episodes: Sequence[Episode]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return support features (E, S, D), their labels (S,) and query features (E, Q, D), float64 on the device."""
        support = self._support.take_features(np.stack([episode.support_ids for episode in episodes]))
        query = self._plain.take_features(np.stack([episode.query_ids for episode in episodes]))
        support = prepare_features(support.to(self._device), self._normalize).flatten(1, -2)
        query = prepare_features(query.to(self._device), self._normalize).flatten(1, -2)
        n_way = len(episodes[0].class_ids)
        labels = torch.arange(n_way, device=self._device).repeat_interleave(support.shape[1] // n_way)
        return support, labels, query

    def _rows(
        self, name: str, episodes: Sequence[Episode], features: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ) -> list[Row]:
        """Return one classifier's rows; `seconds` of each is an equal share.

        A classifier that raises is tried on each episode alone: only those that it fails on get failed rows.
        """
        support, labels, query = features
        started = time.perf_counter()
        try:
            predictions = predict(self._methods[name], support, labels, query).numpy(force=True)
        except Exception:
            if len(episodes) > 1:
                alone = ((support[i : i + 1], labels, query[i : i + 1]) for i in range(len(episodes)))
                return [row for i, one in enumerate(alone) for row in self._rows(name, [episodes[i]], one)]
            return [Row(status="failed", error=traceback.format_exc(), **self._known(name, episodes[0], started, 1))]
        n_way, n_query = episodes[0].query_ids.shape
        truth = np.repeat(np.arange(n_way), n_query)
        correct = (predictions == truth).mean(axis=1)
        rows = [
            Row(
                status="ok", accuracy=float(correct[i]), predictions=predictions[i].tolist(), labels=truth.tolist(),
                **self._known(name, episode, started, len(episodes)),
            )
            for i, episode in enumerate(episodes)
        ]  # fmt: skip
        self.seconds[name] += time.perf_counter() - started
        return rows

    def _known(self, name: str, episode: Episode, started: float, n_episodes: int) -> dict[str, Any]:
        return {
            "episode": episode.index, "method": name, "seconds": (time.perf_counter() - started) / n_episodes,
            "episode_hash": episode.hash, "config_hash": self._hashes[name], **self._whereabouts,
        }  # fmt: skip
