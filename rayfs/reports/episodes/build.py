"""The report of a run: one HTML file with everything in it, and the result table as CSV, Markdown and LaTeX.

Built from the run directory alone, pictures from the image cache; the same rows give the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rayfs.datasets.episode_file import EpisodeManifest, decode_manifest
from rayfs.errors import InputError
from rayfs.json_text import parse_json
from rayfs.methods.configs import BASELINE
from rayfs.reports.document import AnswerKey, Block, Figure, Grid, Note, Section, Table
from rayfs.reports.episodes.chosen_episodes import ChosenEpisode, choose_episodes
from rayfs.reports.episodes.class_accuracy import count_classes
from rayfs.reports.episodes.classes import class_sections
from rayfs.reports.episodes.cost_figure import draw_cost
from rayfs.reports.episodes.failures import failures
from rayfs.reports.episodes.figures import (
    Observations,
    accuracy_step_pt,
    draw_histograms,
    draw_pairs,
    draw_running,
    draw_seconds,
    ordered_observations,
)
from rayfs.reports.episodes.head import run_report
from rayfs.reports.episodes.pictures import episode_pictures, open_pictures
from rayfs.reports.figure_style import css_colour, method_colours
from rayfs.reports.joint_cells import joint_cells
from rayfs.reports.render import render
from rayfs.reports.result_table import ResultTable
from rayfs.reports.summary_table import summary_table
from rayfs.reports.table_exports import table_files
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import EPISODE_MANIFEST, SUMMARY, RunDirectory
from rayfs.statistics.joint_summary import summarise_joint
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
    summary = summarise(read.rows, read.baseline, read.methods)
    table = summary_table(summary)
    values = ordered_observations(read.rows, read.methods)
    report = run_report(
        read.manifest, read.rows, read.baseline, run.written_at(), run.location,
        sections=[
            _result(read, table, values), _joint(read), _figures(read, values, summary), *_classes(read),
            failures(read.rows), _pictures(read, cache_dir),
        ],
    )  # fmt: skip
    return {REPORT: render(report), **table_files(table)}


def _read(run: RunDirectory) -> _Run:
    rows, manifest = run.rows(), run.manifest()
    assert manifest is not None  # rows() refuses what is no run
    with_rows = {row.method for row in rows}
    methods = [name for name in manifest["methods"] if name in with_rows]
    methods += sorted(with_rows - set(methods))
    baseline = _baseline(run, methods)
    episodes, problem = None, f"the run has no {EPISODE_MANIFEST} (an earlier version wrote it); its command adds it"
    if (stored := run.read_file(EPISODE_MANIFEST)) is not None:
        try:
            episodes, problem = decode_manifest(stored, EPISODE_MANIFEST), ""
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
            raise InputError(f"{EPISODE_MANIFEST} is of another run: its {name} {found[name]}, here {wanted[name]}")


def _baseline(run: RunDirectory, methods: Sequence[str]) -> str | None:
    """Return the baseline that the run's summary names, else the usual one, if it has rows."""
    try:
        named = parse_json(run.read_file(SUMMARY) or b"{}").get("baseline")
    except (ValueError, AttributeError):
        named = None
    return next((name for name in (named, BASELINE) if name in methods), None)


def _result(run: _Run, table: ResultTable, values: Observations) -> Section:
    colours = {name: css_colour(colour) for name, colour in run.colours.items()}
    nothing = "" if values else "No episode of this run is finished: there is nothing to draw."
    return Section(heading="Result", blocks=[Table(table=table, colours=colours), Note(text=nothing, tone="warning")])


def _joint(run: _Run) -> Section:
    joint = summarise_joint(run.rows, run.baseline, run.methods)
    n_base = len(run.manifest["identity"]["base"]["classes"]) if joint else 0
    return Section(
        heading="Novel and base classes at once", blocks=[Table(table=joint_cells(joint, run.baseline, n_base))]
    )


def _figures(run: _Run, values: Observations, summary: Mapping[str, Any]) -> Section:
    heading = "Accuracy, gain and time"
    if not values:
        return Section(heading=heading)
    figures = [
        Figure(
            svg=draw_histograms(values, run.colours, accuracy_step_pt(run.rows)), heading="Accuracies",
            caption="How many distinct episodes came out at each; the line is the mean.",
        ),
        *_pairs(run, values),
        Figure(
            svg=draw_running(values, run.colours), heading="Mean accuracy",
            caption="Of the first n episodes, with its 95% interval.",
        ),
        *_running_gain(run, values),
        Figure(
            svg=draw_seconds(run.rows, run.colours), heading="Seconds per episode",
            caption="Box: middle half; line: 5% to 95%; tick: median; diamond: mean.",
        ),
        Figure(
            svg=draw_cost(summary, run.colours), heading="Accuracy for its cost",
            caption="Variants of one method are joined.",
        ),
    ]  # fmt: skip
    return Section(heading=heading, blocks=[Grid(blocks=figures)])


def _pairs(run: _Run, values: Observations) -> list[Figure]:
    if run.baseline is None or run.baseline not in values:
        return []
    others = [m for m in values if m != run.baseline and values[m].keys() & values[run.baseline].keys()]
    return [
        Figure(
            svg=draw_pairs(m, values, run.baseline, run.colours[m]), heading=f"{m} against {run.baseline}",
            caption="The same episodes; above the dashed line, the first is better.",
        )
        for m in others
    ]  # fmt: skip


def _running_gain(run: _Run, values: Observations) -> list[Figure]:
    if run.baseline is None or run.baseline not in values:
        return []
    running = draw_running(values, run.colours, gains_over=run.baseline)
    caption = "Paired on the same episodes, with its 95% interval."
    return [Figure(svg=running, heading=f"Mean gain over {run.baseline}", caption=caption)]


def _classes(run: _Run) -> list[Section]:
    if run.episodes is None:
        unknown = Note(text=f"Nothing is known of the classes: {run.problem}.", tone="warning")
        return [Section(heading="Classes", blocks=[unknown])]
    found = count_classes(run.rows, run.episodes)
    counts = {method: found[method] for method in run.methods if method in found}
    if not counts:
        return []
    main = next(method for method in (run.main, *counts) if method is not None and method in counts)
    return class_sections(counts, main, run.colours)


def _pictures(run: _Run, cache_dir: Path) -> Section:
    heading = "Episodes to look at"
    other = run.baseline if run.main != run.baseline else None
    chosen = choose_episodes(run.rows, run.main, other) if run.main else []
    if not chosen or run.episodes is None or run.main is None:
        return Section(heading=heading)
    wants_base = any(episode.row.top_base_rows for episode in chosen)
    pictures = open_pictures(run.manifest, cache_dir, wants_base=wants_base)
    blocks: list[Block] = [AnswerKey(methods=list(filter(None, [run.main, other])))]
    blocks += [Note(text=text, tone="warning") for text in pictures.missing]
    blocks += [_episode(of, episode_pictures(of, pictures, run.episodes)) for of in chosen]
    return Section(heading=heading, blocks=blocks)


def _episode(chosen: ChosenEpisode, pictures: Sequence[Block]) -> Section:
    row, other = chosen.row, chosen.baseline_row
    assert row.accuracy is not None
    text = f"{row.method} {100 * row.accuracy:.1f}%"
    if other is not None and other.accuracy is not None:
        gain = f"{chosen.gain_pt:+.1f}".replace("-", "−")
        text += f", {other.method} {100 * other.accuracy:.1f}%: {gain} points"
    return Section(heading=f"{chosen.reason}: episode {row.episode}", blocks=[Note(text=text, tone="muted"), *pictures])
