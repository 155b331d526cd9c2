"""How every figure looks, on a page and in a file of its own: one palette, real text, small SVG."""

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from rayfs.reports.inline_svg import inline_svg

WIDTH_IN = 4.8
"""Width of a figure that is read on a phone, too; its text is 8.5 points."""

INK, MUTED, GRID = "#1c2128", "#636c76", "#d5d9de"
BASELINE = "#8a8f96"
SERIES = ("#4477aa", "#cc6677", "#44aa99", "#ddaa33", "#aa4499", "#66ccee")
"""Distinguishable by people who are colour-blind (Paul Tol's palettes); the baseline is grey."""

DARK = {
    INK: "#e6e8eb", MUTED: "#9aa4af", GRID: "#343b44", BASELINE: "#a3a9b1",
    "#4477aa": "#77aadd", "#cc6677": "#ee8899", "#44aa99": "#55c4b2", "#ddaa33": "#eecc66", "#aa4499": "#d17fc3",
    "#66ccee": "#99ddff",
}  # fmt: skip
"""Colour -> what it becomes on a dark page."""

_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", BASELINE: "base"} | {c: f"c{i}" for i, c in enumerate(SERIES)}

_STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "rayfs", "text.parse_math": False, "font.size": 8.5,
    "axes.titlesize": 8.5, "axes.labelsize": 8.5, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8,
    "axes.titlelocation": "left", "axes.titlecolor": INK, "text.color": INK, "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED, "axes.linewidth": 0.7,
    "xtick.major.width": 0.7, "ytick.major.width": 0.7, "xtick.major.size": 3, "ytick.major.size": 3,
    "axes.spines.top": False, "axes.spines.right": False, "grid.color": GRID, "grid.linewidth": 0.6,
    "axes.axisbelow": True, "legend.frameon": False, "figure.facecolor": "none", "axes.facecolor": "none",
    "lines.linewidth": 1.4,
}  # fmt: skip


def method_colours(methods: Sequence[str], baseline: str | None) -> dict[str, str]:
    """Return method -> colour: grey for the baseline, the palette in turn for the others."""
    others = [method for method in methods if method != baseline]
    colours = {method: SERIES[i % len(SERIES)] for i, method in enumerate(others)}
    return {method: colours.get(method, BASELINE) for method in methods}


def palette_css() -> str:
    """Return the style rules that give every colour of the figures its value, on light and on dark pages."""
    light = "".join(f"--{name}:{colour};" for colour, name in _VARIABLES.items())
    dark = "".join(f"--{name}:{DARK[colour]};" for colour, name in _VARIABLES.items())
    return f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def css_colour(colour: str) -> str:
    """Return `colour` as a style rule of the page names it."""
    return f"var(--{_VARIABLES[colour]})"


def draw_svg(draw: Callable[[Any], None], label: str, *, height_in: float, width_in: float = WIDTH_IN) -> Markup:
    """Return the inline SVG that `draw` draws into an empty matplotlib figure, with `label` for screen readers.

    Text stays text in the page's font, colours follow the page, and nothing refers to anything outside.
    """
    return inline_svg(_drawn(draw, height_in, width_in), label, _VARIABLES)


def draw_file(draw: Callable[[Any], None], *, height_in: float, width_in: float) -> bytes:
    """Return an SVG file on white that `draw` draws into an empty matplotlib figure; the same call, the same bytes."""
    return _drawn(draw, height_in, width_in, **{"figure.facecolor": "white"}).encode()


def logarithmic_x(axes: Any, ratio: float) -> None:
    """Make the x axis logarithmic with plain numbers, the more of them between the decades the fewer there are.

    Arguments:
        ratio: of the largest value shown to the smallest.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    subs: tuple[float, ...] = (1,) if ratio >= 100 else (1, 2, 5) if ratio >= 8 else (1, 1.5, 2, 3, 4, 5, 7)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _drawn(draw: Callable[[Any], None], height_in: float, width_in: float, **style: str) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # no pyplot: it keeps global state and wants a display

    buffer = io.StringIO()
    with rc_context(_STYLE | style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's font has them
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        draw(figure)
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return buffer.getvalue()
