"""Pictures of chosen episodes: support, queries with their answers, and the base images a label is surest of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rayfs.datasets.episode_file import EpisodeManifest
from rayfs.datasets.episodes import Episode
from rayfs.errors import InputError
from rayfs.reports.episodes.chosen_episodes import ChosenEpisode
from rayfs.reports.sprites import strip
from rayfs.reports.table_exports import breakable_html, escape_html, printable
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


def episode_pictures(chosen: ChosenEpisode, pictures: Pictures, manifest: EpisodeManifest) -> str:
    """Return the HTML of one episode, class by class; empty where its images or row ids are not at hand."""
    episode = next((e for e in manifest.episodes if e.hash == chosen.row.episode_hash), None)
    if episode is None or pictures.novel is None or not _holds(pictures.novel, episode):
        return ""
    names = [printable(pictures.novel.class_names[c]) for c in episode.class_ids]
    shown = min(len(names), MAX_CLASSES)
    blocks = [_class_block(label, names, episode, chosen, pictures) for label in range(shown)]
    if shown < len(names):
        blocks.append(f"<p class='muted'>{len(names) - shown} more classes of this episode are not shown.</p>")
    return "\n".join(blocks)


def _holds(table: "ImageTable", episode: Episode) -> bool:
    rows = max(episode.support_rows.max(), episode.query_rows.max())
    return bool(rows < len(table) and episode.class_ids.max() < len(table.class_names))


def _class_block(
    label: int, names: Sequence[str], episode: Episode, chosen: ChosenEpisode, pictures: Pictures
) -> str:  # fmt: skip
    assert pictures.novel is not None
    support = episode.support_rows[label][:MAX_SUPPORT]
    n = len(support)
    images = strip(pictures.novel.images[support], [""] * n, [f"support image of {names[label]}"] * n)
    parts = [
        _figure(_counted("support", n, episode.support_rows.shape[1]), images),
        _queries(label, names, episode, chosen, pictures.novel),
    ]  # fmt: skip
    if pictures.base is not None and chosen.row.top_base_rows:
        parts.append(_base_images(label, names, chosen.row, pictures.base))
    number = f'<b class="label">{label + 1}</b>'
    return f'<div class="class"><h4>{number}{escape_html(names[label])}</h4>{"".join(parts)}</div>'


def _queries(label: int, names: Sequence[str], episode: Episode, chosen: ChosenEpisode, table: "ImageTable") -> str:
    places = [i for i, true in enumerate(chosen.row.labels) if true == label]
    rows = episode.query_rows[label]
    n = min(len(rows), len(places), MAX_QUERIES)
    captions, descriptions, classes = [], [], []
    for place in places[:n]:
        answers = {chosen.row.method: chosen.row.predictions[place]}
        if chosen.baseline_row is not None and len(chosen.baseline_row.predictions) > place:
            answers[chosen.baseline_row.method] = chosen.baseline_row.predictions[place]
        captions.append("".join(_mark(answer, label) for answer in answers.values()))
        descriptions.append(
            f"query image of {names[label]}; "
            + "; ".join(
                f"{method}: {'right' if answer == label else f'wrong, taken for {answer + 1} {names[answer]}'}"
                for method, answer in answers.items()
            )
        )
        classes.append("right" if answers[chosen.row.method] == label else "wrong")
    if n == 0:
        return ""
    images = strip(table.images[rows[:n]], captions, descriptions, classes)
    return _figure(_counted("queries", n, len(rows)), images)


def _mark(answer: int, label: int) -> str:
    return '<em class="yes">✓</em>' if answer == label else f'<em class="no">✗&thinsp;{answer + 1}</em>'


def _base_images(label: int, names: Sequence[str], row: Row, base: "ImageTable") -> str:
    per_class = len(row.top_base_rows) // len(names)
    start = label * per_class
    n = min(per_class, MAX_BASE)
    rows = np.array(row.top_base_rows[start : start + n])
    if n == 0 or rows.min() < 0 or rows.max() >= len(base):
        return ""
    owners = np.searchsorted(base.offsets, rows, side="right") - 1
    owner_names = [printable(base.class_names[c]) for c in owners]
    probabilities = row.top_base_probabilities[start : start + n]
    captions = [
        f'<em class="p">{p:.2f}</em><em class="name">{breakable_html(name)}</em>'
        for p, name in zip(probabilities, owner_names, strict=True)
    ]
    descriptions = [
        f"base image of {name}: {names[label]} with probability {p:.3f}"
        for p, name in zip(probabilities, owner_names, strict=True)
    ]
    heading = "base images surest to be this class, with the probability"
    return _figure(heading, strip(base.images[rows], captions, descriptions), style="base")


def _counted(what: str, shown: int, there: int) -> str:
    return what if shown == there else f"{what} ({shown} of {there})"


def _figure(heading: str, content: str, style: str = "") -> str:
    return f'<figure class="images {style}"><figcaption>{heading}</figcaption>{content}</figure>'
