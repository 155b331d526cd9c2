"""The report of a run: one HTML file with everything in it, and the result table as CSV, Markdown and LaTeX.

Built from the run directory alone, pictures from the image cache; the same rows give the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rayfs.datasets.episode_file import EpisodeManifest, decode_manifest
from rayfs.errors import InputError
from rayfs.json_text import parse_json
from rayfs.reports import page
from rayfs.reports.episodes.chosen_episodes import ChosenEpisode, choose_episodes
from rayfs.reports.episodes.class_accuracy import ClassCounts, count_classes
from rayfs.reports.episodes.classes import class_sections
from rayfs.reports.episodes.cost_figure import draw_cost
from rayfs.reports.episodes.figures import (
    accuracy_step_pt,
    draw_histograms,
    draw_pairs,
    draw_running,
    draw_seconds,
    ordered_observations,
)
from rayfs.reports.episodes.pictures import episode_pictures, open_pictures
from rayfs.reports.figure_style import css_colour, method_colours
from rayfs.reports.joint_cells import joint_cells
from rayfs.reports.published.label_halluc import FROZEN
from rayfs.reports.result_cells import result_cells
from rayfs.reports.table_exports import escape_html, html_table, table_files
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import EPISODE_FILE, SUMMARY, RunDirectory
from rayfs.statistics.joint_summary import joint_to_json, summarise_joint
from rayfs.statistics.summary import looked_at, summarise

REPORT = "report.html"


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What every part of the report reads."""

    manifest: dict[str, Any]
    rows: list[Row]
    methods: list[str]
    """In the order of the manifest, those with rows."""
    baseline: str | None
    main: str | None
    """The one whose classes and episodes are shown (`looked_at`)."""
    colours: dict[str, str]
    episodes: EpisodeManifest | None
    problem: str
    """Why `episodes` is None; else empty."""


def write_report(run: RunDirectory, cache_dir: Path) -> None:
    """Write `report.html`, `table.csv`, `table.md` and `table.tex` into an open run.

    Raises:
        InputError: the run cannot be read or written.
    """
    for name, content in build_report(run, cache_dir).items():
        run.write_file(name, content)


def build_report(run: RunDirectory, cache_dir: Path) -> dict[str, bytes | str]:
    """Return file name -> content of the report of `run`; writes nothing.

    All rows of the directory count, whichever of them the last command asked for.

    Raises:
        InputError: there is no run or one of its files is damaged.
    """
    read = _read(run)
    summary = summarise(read.rows, read.baseline, read.methods).to_json()
    values = ordered_observations(read.rows, read.methods)
    counts = count_classes(read.rows, read.episodes) if read.episodes else {}
    counts = {method: counts[method] for method in read.methods if method in counts}
    sections = [
        page.head(read.manifest, read.rows, read.baseline, run.written_at()),
        page.section("Result", html_table(result_cells(summary), _swatches(read.colours)), *_nothing(values)),
        _joint(read),
        _figures(read, values, summary),
        _classes(read, counts),
        page.failures(read.rows),
        _pictures(read, cache_dir),
    ]
    html = page.page(page.page_title(read.manifest["identity"]), sections, run.location)
    return {REPORT: html, **table_files(summary)}


def _read(run: RunDirectory) -> _Run:
    rows, manifest = run.rows(), run.manifest()
    assert manifest is not None  # rows() refuses what is no run
    with_rows = {row.method for row in rows}
    methods = [name for name in manifest["methods"] if name in with_rows]
    methods += sorted(with_rows - set(methods))
    baseline = _baseline(run, methods)
    episodes, problem = None, f"the run has no {EPISODE_FILE} (an earlier version wrote it); its command adds it"
    if (stored := run.read_file(EPISODE_FILE)) is not None:
        try:
            episodes, problem = decode_manifest(stored, EPISODE_FILE), ""
            _refuse_other_episodes(episodes, manifest["identity"])
        except InputError as error:
            episodes, problem = None, str(error)
    return _Run(
        manifest=manifest, rows=rows, methods=methods, baseline=baseline, main=looked_at(methods, baseline),
        colours=method_colours(methods, baseline), episodes=episodes, problem=problem,
    )  # fmt: skip


def _refuse_other_episodes(episodes: EpisodeManifest, identity: Mapping[str, Any]) -> None:
    """Refuse row ids that are not of this run's images, or of episodes of another size."""
    wanted = {"images": identity.get("novel_table"), **identity.get("protocol", {})}
    found = {"images": episodes.fingerprint, **asdict(episodes.protocol)}
    for name in ("images", "n_way", "n_shot", "n_query"):
        if wanted.get(name) not in (None, found[name]):
            raise InputError(f"{EPISODE_FILE} is of another run: its {name} {found[name]}, here {wanted[name]}")


def _baseline(run: RunDirectory, methods: Sequence[str]) -> str | None:
    """Return the baseline that the run's summary names, else the usual one, if it has rows."""
    try:
        named = parse_json(run.read_file(SUMMARY) or b"{}").get("baseline")
    except (ValueError, AttributeError):
        named = None
    return next((name for name in (named, FROZEN) if name in methods), None)


def _nothing(values: Mapping[str, Any]) -> list[str]:
    return [] if values else [page.warning("No episode of this run is finished: there is nothing to draw.")]


def _swatches(colours: Mapping[str, str]) -> dict[str, str]:
    return {name: f'<i class="swatch" style="background:{css_colour(c)}"></i>' for name, c in colours.items()}


def _joint(run: _Run) -> str:
    joint = joint_to_json(summarise_joint(run.rows, run.baseline, run.methods))
    if not joint:
        return ""
    n_base = len(run.manifest["identity"]["base"]["classes"])
    return page.section("Novel and base classes at once", html_table(joint_cells(joint, run.baseline, n_base)))


def _figures(run: _Run, values: Mapping[str, Mapping[str, float]], summary: Mapping[str, Any]) -> str:
    if not values:
        return ""
    histograms = draw_histograms(values, run.colours, accuracy_step_pt(run.rows))
    seconds = draw_seconds(run.rows, run.colours)
    plots = [
        page.plot(histograms, "Accuracies", "How many distinct episodes came out at each; the line is the mean."),
        *_pairs(run, values),
        page.plot(
            draw_running(values, run.colours), "Mean accuracy", "Of the first n episodes, with its 95% interval."
        ),
        _running_gain(run, values),
        page.plot(seconds, "Seconds per episode", "Box: middle half; line: 5% to 95%; tick: median; diamond: mean."),
        page.plot(draw_cost(summary, run.colours), "Accuracy for its cost", "Variants of one method are joined."),
    ]
    return page.section("Accuracy, gain and time", page.grid(*plots))


def _pairs(run: _Run, values: Mapping[str, Mapping[str, float]]) -> list[str]:
    if run.baseline is None or run.baseline not in values:
        return []
    others = [m for m in values if m != run.baseline and values[m].keys() & values[run.baseline].keys()]
    caption = "The same episodes; above the dashed line, the first is better."
    return [
        page.plot(draw_pairs(m, values, run.baseline, run.colours[m]), f"{m} against {run.baseline}", caption)
        for m in others
    ]


def _running_gain(run: _Run, values: Mapping[str, Mapping[str, float]]) -> str:
    if run.baseline is None or run.baseline not in values:
        return ""
    running = draw_running(values, run.colours, gains_over=run.baseline)
    return page.plot(running, f"Mean gain over {run.baseline}", "Paired on the same episodes, with its 95% interval.")


def _classes(run: _Run, counts: Mapping[str, ClassCounts]) -> str:
    if run.episodes is None:
        return page.section("Classes", page.warning(f"Nothing is known of the classes: {run.problem}."))
    if not counts:
        return ""
    main = next(method for method in (run.main, *counts) if method is not None and method in counts)
    return class_sections(counts, main, run.colours)


def _pictures(run: _Run, cache_dir: Path) -> str:
    chosen = choose_episodes(run.rows, run.main, run.baseline if run.main != run.baseline else None) if run.main else []
    if not chosen or run.episodes is None:
        return ""
    wants_base = any(episode.row.top_base_rows for episode in chosen)
    pictures = open_pictures(run.manifest, cache_dir, wants_base=wants_base)
    episode = partial(episode_pictures, pictures=pictures, manifest=run.episodes)
    shown = [_episode(of, episode(of)) for of in chosen]
    marks = "✓ right, <em class='no'>✗&thinsp;3</em> taken for class 3"
    first = (
        f"{escape_html(run.main)}, then {escape_html(run.baseline)}"
        if run.baseline != run.main and run.baseline
        else ""
    )
    text = f"Below each query image: {marks}{'; ' + first if first else ''}. A dashed frame marks the mistakes of "
    text += f"{escape_html(run.main)}."
    return page.section("Episodes to look at", *map(page.warning, pictures.missing), *shown, text=text)


def _episode(chosen: ChosenEpisode, pictures: str) -> str:
    row, other = chosen.row, chosen.baseline_row
    assert row.accuracy is not None
    text = f"{row.method} {100 * row.accuracy:.1f}%"
    if other is not None and other.accuracy is not None:
        text += f", {other.method} {100 * other.accuracy:.1f}%: {chosen.gain_pt:+.1f} points".replace("-", "−")
    heading = f"{escape_html(chosen.reason)}: episode {row.episode}"
    return f'<div class="episode"><h3>{heading}</h3><p class="muted">{escape_html(text)}</p>{pictures}</div>'
