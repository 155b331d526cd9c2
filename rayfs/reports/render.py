"""From a report to its HTML: the templates and what they need of Python."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from rayfs.reports.document import Block, Report, is_empty
from rayfs.reports.figure_style import palette_css
from rayfs.reports.printable import printable

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure of a table as a page shows it."""

    figure: str
    interval: str
    """With its sign, or in brackets; empty where there is none."""
    below: bool
    """Whether the interval stands below its figure, because it is long."""


def render(report: Report) -> str:
    """Return the whole HTML file."""
    css = files("rayfs.reports").joinpath("templates", "report.css").read_text()
    return _environment().get_template("report.html").render(report=report, css=Markup(palette_css() + css))


def render_block(block: Block) -> str:
    """Return the HTML of one part of a page."""
    return str(_environment().get_template("blocks.html").module.show(block, 2)).strip()  # type: ignore[attr-defined]


def split_cell(text: str) -> Cell:
    """Return a figure apart from its interval, with real minus signs."""
    text = re.sub(r"(?<![\w.)])-(?=\d)", "−", text)
    mean, sign, half_width = text.partition(" ± ")
    if sign:
        return Cell(figure=mean, interval=f"{sign}{half_width}", below=False)
    figure, bracket, ends = text.partition(" [")
    return Cell(figure=figure, interval=f"[{ends}" if bracket else "", below=bool(bracket))


def breakable(text: object) -> Markup:
    """Return `text`, escaped, that may break after slashes and underscores."""
    rest = escape(printable(str(text)))
    for mark in "/_":
        rest = rest.replace(mark, Markup("%s<wbr>") % mark)
    return rest


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # late: jobs that print help write no page

    environment = Environment(
        loader=PackageLoader("rayfs.reports"), autoescape=True, undefined=StrictUndefined, finalize=_finalize,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"breakable": breakable, "split_cell": split_cell}
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.tests["empty"] = is_empty
    return environment


def _finalize(value: Any) -> Any:
    """Make texts from outside printable, before they are escaped."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
