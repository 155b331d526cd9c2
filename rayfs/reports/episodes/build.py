"""The report of a run: one HTML file with everything in it, and the result table as CSV, Markdown and LaTeX.

Built from the run directory alone, pictures from the image cache; the same rows give the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

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
from rayfs.reports.episodes.read_run import ReadRun, read_run
from rayfs.reports.figure_style import css_colour
from rayfs.reports.joint_cells import joint_cells
from rayfs.reports.render import render
from rayfs.reports.result_table import ResultTable
from rayfs.reports.summary_table import summary_table
from rayfs.reports.table_exports import table_files
from rayfs.runs.run_directory import RunDirectory
from rayfs.statistics.joint_summary import summarise_joint
from rayfs.statistics.summary import RunSummary, summarise

REPORT = "report.html"


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
    read = read_run(run)
    summary = summarise(read.rows, read.baseline, read.methods)
    table = summary_table(summary)
    values = ordered_observations(read.rows, read.methods)
    sections = [
        _result(read, table, values),
        _joint(read),
        *([_figures(read, values, summary)] if values else []),
        *_classes(read),
        failures(read.rows),
        *_pictures(read, cache_dir),
    ]
    report = run_report(read.manifest, read.rows, read.baseline, run.written_at(), run.location, sections)
    return {REPORT: render(report), **table_files(table)}


def _result(run: ReadRun, table: ResultTable, values: Observations) -> Section:
    colours = {name: css_colour(colour) for name, colour in run.colours.items()}
    nothing = "" if values else "No episode of this run is finished: there is nothing to draw."
    return Section("Result", [Table(table, colours=colours), Note(nothing, "warning")])


def _joint(run: ReadRun) -> Section:
    joint = summarise_joint(run.rows, run.baseline, run.methods)
    n_base = len(run.manifest["identity"]["base"]["classes"]) if joint else 0
    return Section("Novel and base classes at once", [Table(joint_cells(joint, run.baseline, n_base))])


def _figures(run: ReadRun, values: Observations, summary: RunSummary) -> Section:
    histograms = draw_histograms(values, run.colours, accuracy_step_pt(run.rows))
    running, seconds = draw_running(values, run.colours), draw_seconds(run.rows, run.colours)
    figures = [
        Figure(histograms, "Accuracies", "How many distinct episodes came out at each; the line is the mean."),
        *_pairs(run, values),
        Figure(running, "Mean accuracy", "Of the first n episodes, with its 95% interval."),
        *_running_gain(run, values),
        Figure(seconds, "Seconds per episode", "Box: middle half; line: 5% to 95%; tick: median; diamond: mean."),
        Figure(draw_cost(summary, run.colours), "Accuracy for its cost", "Variants of one method are joined."),
    ]
    return Section("Accuracy, gain and time", [Grid(figures)])


def _pairs(run: ReadRun, values: Observations) -> list[Figure]:
    if run.baseline is None or run.baseline not in values:
        return []
    others = [m for m in values if m != run.baseline and values[m].keys() & values[run.baseline].keys()]
    caption = "The same episodes; above the dashed line, the first is better."
    return [
        Figure(draw_pairs(m, values, run.baseline, run.colours[m]), f"{m} against {run.baseline}", caption)
        for m in others
    ]


def _running_gain(run: ReadRun, values: Observations) -> list[Figure]:
    if run.baseline is None or run.baseline not in values:
        return []
    running = draw_running(values, run.colours, gains_over=run.baseline)
    caption = "Paired on the same episodes, with its 95% interval."
    return [Figure(running, f"Mean gain over {run.baseline}", caption)]


def _classes(run: ReadRun) -> list[Section]:
    if run.episodes is None:
        return [Section("Classes", [Note(f"Nothing is known of the classes: {run.problem}.", "warning")])]
    found = count_classes(run.rows, run.episodes)
    counts = {method: found[method] for method in run.methods if method in found}
    if not counts:
        return []
    main = next(method for method in (run.main, *counts) if method is not None and method in counts)
    return class_sections(counts, main, run.colours)


def _pictures(run: ReadRun, cache_dir: Path) -> list[Section]:
    other = run.baseline if run.main != run.baseline else None
    chosen = choose_episodes(run.rows, run.main, other) if run.main else []
    if not chosen or run.episodes is None or run.main is None:
        return []
    wants_base = any(episode.row.top_base_rows for episode in chosen)
    pictures = open_pictures(run.manifest, cache_dir, wants_base=wants_base)
    blocks: list[Block] = [AnswerKey([run.main, other] if other else [run.main])]
    blocks += [Note(text, "warning") for text in pictures.missing]
    blocks += [_episode(of, episode_pictures(of, pictures, run.episodes)) for of in chosen]
    return [Section("Episodes to look at", blocks)]


def _episode(chosen: ChosenEpisode, pictures: Sequence[Block]) -> Section:
    row, other = chosen.row, chosen.baseline_row
    assert row.accuracy is not None
    text = f"{row.method} {100 * row.accuracy:.1f}%"
    if other is not None and other.accuracy is not None:
        gain = f"{chosen.gain_pt:+.1f}".replace("-", "−")
        text += f", {other.method} {100 * other.accuracy:.1f}%: {gain} points"
    return Section(f"{chosen.reason}: episode {row.episode}", [Note(text, "muted"), *pictures])
