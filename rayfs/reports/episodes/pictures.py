"""Pictures of chosen episodes: support, queries with their answers, and the base images a label is surest of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rayfs.datasets.episode_file import EpisodeFile
from rayfs.datasets.episodes import Episode
from rayfs.errors import InputError
from rayfs.reports.document import Block, Gallery, Note, Picture, Strip
from rayfs.reports.episodes.chosen_episodes import ChosenEpisode
from rayfs.reports.sprites import strip
from rayfs.runs.rows import Row

if TYPE_CHECKING:
    from rayfs.datasets.image_table import ImageTable  # it imports torch

MAX_CLASSES, MAX_SUPPORT, MAX_QUERIES, MAX_BASE = 20, 5, 15, 8
"""Most classes of an episode, and most images of a class, that are shown; the rest is counted."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The image tables of a run, as far as the cache has them."""

    novel: "ImageTable | None"
    base: "ImageTable | None"
    missing: list[str]
    """What the cache lacks, and how to get it; plain sentences."""


def open_pictures(manifest: Mapping[str, Any], cache_dir: Path, *, wants_base: bool) -> Pictures:
    """Return the tables that the run's `manifest` names, from the cache alone."""
    from rayfs.datasets.image_table import open_table  # it imports torch

    names = {"novel": manifest["identity"].get("novel_table")}
    if wants_base:
        names["base"] = manifest.get("confirmed", {}).get("base_table")
    tables: dict[str, ImageTable] = {}
    missing = []
    for kind, fingerprint in names.items():
        try:
            if not fingerprint:
                raise InputError("the run does not say which table they are of")
            tables[kind] = open_table(cache_dir, fingerprint)
        except (InputError, OSError, ValueError) as error:
            missing.append(
                f"No pictures of {kind} images: {error}. The run's own command decodes them again "
                "(label_halluc_eval.py with --check); or set RAYFS_CACHE to the cache that the run used. Then build "
                "this report once more."
            )
    return Pictures(novel=tables.get("novel"), base=tables.get("base"), missing=missing)


def episode_pictures(chosen: ChosenEpisode, pictures: Pictures, manifest: EpisodeFile) -> list[Block]:
    """Return the images of one episode, class by class; none where its images or row ids are not at hand."""
    episode = next((e for e in manifest.episodes if e.hash == chosen.row.episode_hash), None)
    if episode is None or pictures.novel is None or not _holds(pictures.novel, episode):
        return []
    names = [pictures.novel.class_names[c] for c in episode.class_ids]
    shown = min(len(names), MAX_CLASSES)
    blocks: list[Block] = [_of_class(label, names, episode, chosen, pictures) for label in range(shown)]
    if shown < len(names):
        blocks.append(Note(f"{len(names) - shown} more classes of this episode are not shown.", "muted"))
    return blocks


def _holds(table: "ImageTable", episode: Episode) -> bool:
    rows = max(episode.support_ids.max(), episode.query_ids.max())
    return bool(rows < len(table) and episode.class_ids.max() < len(table.class_names))


def _of_class(
    label: int, names: Sequence[str], episode: Episode, chosen: ChosenEpisode, pictures: Pictures
) -> Gallery:  # fmt: skip
    assert pictures.novel is not None
    support = episode.support_ids[label][:MAX_SUPPORT]
    shown = [Picture(description=f"support image of {names[label]}")] * len(support)
    caption = _counted("support", len(support), episode.support_ids.shape[1])
    strips = [strip(pictures.novel.images[support], shown, caption=caption)]
    strips += _queries(label, names, episode, chosen, pictures.novel)
    if pictures.base is not None and chosen.row.top_base_rows:
        strips += _base_images(label, names, chosen.row, pictures.base)
    return Gallery(names[label], strips, label=str(label + 1))


def _queries(
    label: int, names: Sequence[str], episode: Episode, chosen: ChosenEpisode, table: "ImageTable"
) -> list[Strip]:
    places = [i for i, true in enumerate(chosen.row.labels) if true == label]
    rows = episode.query_ids[label]
    n = min(len(rows), len(places), MAX_QUERIES)
    if n == 0:
        return []
    shown = [_query(label, place, names, chosen) for place in places[:n]]
    return [strip(table.images[rows[:n]], shown, caption=_counted("queries", n, len(rows)))]


def _query(label: int, place: int, names: Sequence[str], chosen: ChosenEpisode) -> Picture:
    """Return the query image at a place of the episode with the answers of the method and of the baseline."""
    answers = {chosen.row.method: chosen.row.predictions[place]}
    if chosen.baseline_row is not None and len(chosen.baseline_row.predictions) > place:
        answers[chosen.baseline_row.method] = chosen.baseline_row.predictions[place]
    said = (
        f"{method}: {'right' if answer == label else f'wrong, taken for {answer + 1} {names[answer]}'}"
        for method, answer in answers.items()
    )
    return Picture(
        description="; ".join([f"query image of {names[label]}", *said]),
        state="right" if answers[chosen.row.method] == label else "wrong",
        answers=["" if answer == label else str(answer + 1) for answer in answers.values()],
    )


def _base_images(label: int, names: Sequence[str], row: Row, base: "ImageTable") -> list[Strip]:
    per_class = len(row.top_base_rows) // len(names)
    start = label * per_class
    n = min(per_class, MAX_BASE)
    rows = np.array(row.top_base_rows[start : start + n])
    if n == 0 or rows.min() < 0 or rows.max() >= len(base):
        return []
    owners = [base.class_names[c] for c in np.searchsorted(base.offsets, rows, side="right") - 1]
    shown = [
        Picture(
            description=f"base image of {owner}: {names[label]} with probability {p:.3f}", value=f"{p:.2f}", name=owner
        )
        for p, owner in zip(row.top_base_probabilities[start : start + n], owners, strict=True)
    ]
    caption = "base images surest to be this class, with the probability"
    return [strip(base.images[rows], shown, caption=caption, large=True)]


def _counted(what: str, shown: int, there: int) -> str:
    return what if shown == there else f"{what} ({shown} of {there})"
