"""A small real run for the tests of the report: Omniglot characters, episodes drawn from them, answers made up."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rayfs.datasets.episode_file import encode_episode_file
from rayfs.datasets.episodes import Episode, Protocol, draw_episode
from rayfs.datasets.image_table import ImageTable, load_table
from rayfs.datasets.registry import OMNIGLOT
from rayfs.datasets.sources import open_parquet
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import EPISODE_FILE, RunDirectory

PROTOCOL = Protocol(n_way=3, n_shot=2, n_query=4, split="test")


def characters(cache_dir: Path, first: int, last: int) -> ImageTable:
    """Put Latin characters `first` to `last`, 16 x 16 pixels, into a cache: 20 drawings of each."""
    wanted = {f"Latin/character{number:02d}" for number in range(first, last + 1)}
    source = open_parquet([OMNIGLOT / "Latin.parquet"], "label", lambda name: name in wanted)
    return load_table(source, cache_dir, channels=1, image_size=16)


def draw(table: ImageTable, n: int) -> list[Episode]:
    return [draw_episode(table.offsets, table.fingerprint, PROTOCOL, i) for i in range(n)]


def answers(episodes: Sequence[Episode], method: str, n_wrong: Sequence[int], **fields: Any) -> list[Row]:
    """Return rows of `method`, whose first n_wrong[i] answers in episode i are the next class's label."""
    rows = []
    for episode, n in zip(episodes, n_wrong, strict=True):
        labels = np.arange(PROTOCOL.n_way).repeat(PROTOCOL.n_query)
        predictions = np.where(np.arange(len(labels)) < n, (labels + 1) % PROTOCOL.n_way, labels)
        rows.append(
            Row(
                episode=episode.index, method=method, status="ok", accuracy=1 - n / len(labels), seconds=0.5 + n,
                predictions=predictions.tolist(), labels=labels.tolist(), episode_hash=episode.hash, config_hash="c",
                **fields,
            )
        )  # fmt: skip
    return rows


def failed(episode: Episode, method: str, error: str) -> Row:
    return Row(
        episode=episode.index, method=method, status="failed", attempt=3, error=error, episode_hash=episode.hash,
        config_hash="c",
    )  # fmt: skip


def write_run(
    folder: Path, novel: ImageTable, episodes: Sequence[Episode], rows: Sequence[Row], *,
    base: ImageTable | None = None, keep_episodes: bool = True, identity: dict[str, Any] | None = None,
) -> RunDirectory:  # fmt: skip
    """Write a run as the jobs do; return it for reading."""
    known = {
        "benchmark": "omniglot", "image_size": 16, "novel_table": novel.fingerprint, "protocol": asdict(PROTOCOL),
        "backbone": {"name": "conv4", "state_hash": "61912c3761c4669b"},
    }  # fmt: skip
    session = {
        "command": ["python", "job.py", "--out", str(folder)],
        "versions": {"rayfs": "0.1.0"},
        "git_commit": "abc",
    }
    methods = {row.method: {"c": 1.0} for row in rows}
    with RunDirectory(str(folder)).open(known | (identity or {}), session, methods) as run:
        if keep_episodes:
            names = novel.class_names
            run.write_file(EPISODE_FILE, encode_episode_file(list(episodes), PROTOCOL, novel.fingerprint, names))
        run.append(rows)
        if base is not None:
            run.confirm("base_table", base.fingerprint)
    return RunDirectory(str(folder))
