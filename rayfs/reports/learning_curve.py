"""Learning curves of embedding learning: rows in Parquet and a figure in SVG, beside the checkpoint."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rayfs.durable_files import write_durably, written_durably
from rayfs.reports.figure_style import INK, MUTED, SERIES, draw_file

BASE_COLOUR, VALIDATION_COLOUR = SERIES[:2]


def write_learning_curve(checkpoint: Path, curve: Sequence[Mapping[str, Any]], title: str) -> tuple[Path, Path]:
    """Write `<checkpoint>.curve.parquet` and `<checkpoint>.curve.svg`, each whole or not at all.

    Arguments:
        curve: one row an epoch: epoch, learning_rate, loss, parts {name: mean}, train_accuracy, validation_accuracy
            and validation_half_width (fractions), seconds, images_per_second.
        title: what was trained on what.

    Returns:
        The two paths.
    """
    rows_path, figure_path = checkpoint.with_suffix(".curve.parquet"), checkpoint.with_suffix(".curve.svg")
    names = sorted({name for row in curve for name in row["parts"]})
    table = pa.Table.from_pylist(
        [
            {key: value for key, value in row.items() if key != "parts"}
            | {f"loss_{name}": row["parts"].get(name) for name in names}
            for row in curve
        ]
    )
    with written_durably(rows_path) as temporary:
        pq.write_table(table, temporary)
    write_durably(figure_path, draw_learning_curve(curve, title))
    return rows_path, figure_path


def draw_learning_curve(curve: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """Return the SVG: losses on the left, accuracies with the validation interval and the kept epoch on the right."""
    epochs = [row["epoch"] for row in curve]

    def draw(figure: Any) -> None:
        losses, accuracies = figure.subplots(1, 2)
        figure.suptitle(title, fontsize=10)
        _draw_losses(losses, epochs, curve)
        _draw_accuracies(accuracies, epochs, curve)
        for axes in (losses, accuracies):
            axes.set_xlabel("epoch")
            axes.grid(True)
            for row, before in zip(curve[1:], curve, strict=False):
                if row["learning_rate"] <= 0.5 * before["learning_rate"]:
                    axes.axvline(before["epoch"] + 0.5, color=MUTED, linewidth=0.8, linestyle=":", zorder=0)

    return draw_file(draw, width_in=9, height_in=3.4)


def _draw_losses(axes: Any, epochs: list[int], curve: Sequence[Mapping[str, Any]]) -> None:
    axes.plot(epochs, [row["loss"] for row in curve], color=INK, label="loss", marker=_marker(epochs))
    names = sorted({name for row in curve for name in row["parts"]})
    for name in names if len(names) > 1 else ():
        axes.plot(epochs, [row["parts"].get(name) for row in curve], linewidth=1, label=f"{name} (unweighted)")
    axes.set_ylabel("training loss")
    axes.legend()


def _draw_accuracies(axes: Any, epochs: list[int], curve: Sequence[Mapping[str, Any]]) -> None:
    means = [100 * row["validation_accuracy"] for row in curve]
    halves = [100 * row["validation_half_width"] for row in curve]
    best = max(range(len(curve)), key=lambda i: means[i])
    axes.plot(
        epochs, [100 * row["train_accuracy"] for row in curve], color=BASE_COLOUR, label="base images, as seen",
        marker=_marker(epochs),
    )  # fmt: skip
    axes.plot(epochs, means, color=VALIDATION_COLOUR, label="validation ± 95% CI", marker=_marker(epochs))
    lower = [mean - half for mean, half in zip(means, halves, strict=True)]
    upper = [mean + half for mean, half in zip(means, halves, strict=True)]
    axes.fill_between(epochs, lower, upper, color=VALIDATION_COLOUR, alpha=0.2, linewidth=0)
    axes.plot(
        [epochs[best]], [means[best]], "o", markersize=7, markerfacecolor="none", color=VALIDATION_COLOUR,
        label=f"kept: epoch {epochs[best]}, {means[best]:.2f} ± {halves[best]:.2f}",
    )  # fmt: skip
    axes.set_ylabel("accuracy %")
    axes.legend()


def _marker(epochs: Sequence[int]) -> str | None:
    return "." if len(epochs) <= 15 else None
