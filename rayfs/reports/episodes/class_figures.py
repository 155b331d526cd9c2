"""Figures of the classes: how often each is recognised, and what it is taken for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from rayfs.reports.episodes.class_accuracy import ClassCounts, largest_mistake
from rayfs.reports.figure_style import GRID, INK, MUTED, SERIES, WIDTH_IN, draw_svg
from rayfs.reports.printable import short

MAX_CLASSES, N_HARDEST, N_EASIEST = 40, 20, 10
"""More than MAX_CLASSES classes are too many to name in one figure: then the hardest and the easiest are shown."""

MAX_MATRIX = 250
"""Most classes of a confusion matrix that a page can hold."""

MAX_NAMED = 110
"""Most classes whose names fit along a confusion matrix."""

MARKERS = "osD^vP"


def class_order(counts: ClassCounts) -> list[int]:
    """Return positions of the classes, hardest first, equal ones in the table's order."""
    accuracy = counts.accuracy
    return sorted(range(len(counts.names)), key=lambda c: (accuracy[c], c))


def draw_class_accuracy(counts: Mapping[str, ClassCounts], main: str, colours: Mapping[str, str]) -> Markup:
    """Draw every method's accuracy of each class; classes sorted by the accuracy of the method `main`."""
    order = class_order(counts[main])
    names = {int(counts[main].class_ids[c]): counts[main].names[c] for c in order}
    ids: list[int | None] = list(names)
    if len(order) > MAX_CLASSES:
        ids = [*ids[:N_HARDEST], None, *ids[-N_EASIEST:]]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for i, (method, of_method) in enumerate(counts.items()):
            accuracy = dict(zip(of_method.class_ids.tolist(), of_method.accuracy, strict=True))
            places = [(accuracy[c], y) for y, c in enumerate(ids) if c is not None and c in accuracy]
            axes.plot([x for x, _ in places], [y for _, y in places], MARKERS[i % len(MARKERS)], color=colours[method],
                      markersize=4.6, alpha=0.9, markeredgewidth=0, label=short(method),
                      zorder=3 if method == main else 2)  # fmt: skip
        for y, c in enumerate(ids):
            if c is None:
                axes.text(0.5, y, f"{len(order) - N_HARDEST - N_EASIEST} more classes", ha="center", va="center",
                          color=MUTED, transform=axes.get_yaxis_transform())  # fmt: skip
            else:
                axes.axhline(y, color=GRID, linewidth=0.6, zorder=0)
        axes.set_yticks([y for y, c in enumerate(ids) if c is not None])
        axes.set_yticklabels([short(names[c], 34) for c in ids if c is not None], fontsize=7.5)
        axes.tick_params(axis="y", length=0)
        axes.set(ylim=(len(ids) - 0.4, -0.6), xlabel="accuracy of the class's query images, %")
        axes.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=2 if max(map(len, counts)) < 20 else 1, handletextpad=0.2)

    return draw_svg(draw, "Accuracy of each class", height_in=0.9 + 0.165 * len(ids) + 0.09 * len(counts))


def draw_confusion(counts: ClassCounts, method: str) -> Markup:
    """Draw the confusion matrix, each row divided by its images; the depth of colour is the square root of the share.

    Right answers (the diagonal) and mistakes have different colours; the most frequent mistake has the full depth.
    """
    n = len(counts.names)
    right, wrong = (tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in SERIES[:2])
    pixels = np.empty((n, n, 4), dtype=np.uint8)
    pixels[..., :3] = wrong
    pixels[np.arange(n), np.arange(n), :3] = right
    scale = np.where(np.eye(n, dtype=bool), 1.0, largest_mistake(counts) or 1.0)
    pixels[..., 3] = np.sqrt(counts.rates / scale) * 255
    size = float(np.clip(3.2 + 0.12 * n, WIDTH_IN, 7.5))
    font = float(np.clip(0.62 * 72 * (size - 1.2) / n, 3.6, 7.5))
    labels = [short(name, 24) for name in counts.names] if n <= MAX_NAMED else []
    room = 0.3 + 0.62 * font / 72 * max(map(len, labels), default=0)  # 0.62: a wide font's mean character
    side = size - room

    def draw(figure: Any) -> None:
        figure.set_layout_engine("none")  # it measures every label several times
        axes = figure.add_axes((room / size, room / size, 0.995 * side / size, 0.995 * side / size))
        axes.imshow(pixels, interpolation="none")
        for i, name in enumerate(labels):
            axes.text(-0.8, i, name, ha="right", va="center", fontsize=font, color=MUTED)
            axes.text(i, n - 0.2, name, ha="center", va="top", rotation=90, fontsize=font, color=MUTED)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color=GRID)
        figure.text(0.02, 0.99, "true class", rotation=90, va="top", fontsize=8, color=INK)
        figure.text(0.995, 0.02, "taken for", ha="right", va="bottom", fontsize=8, color=INK)

    return draw_svg(draw, f"Confusion matrix of {method}", width_in=size, height_in=size)
