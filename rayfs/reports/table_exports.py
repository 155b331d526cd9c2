"""The result table for spreadsheets, papers and pages: CSV, Markdown, LaTeX and HTML of the same cells."""

import csv
import html
import io
import re
from collections.abc import Mapping
from typing import Any

from rayfs.reports.result_cells import NONE, ResultCells, result_cells, result_columns

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", NONE: "--", '"': r"\textquotedbl{}",
}  # fmt: skip


def table_files(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return file name -> content of the result table of a summary as CSV, Markdown and LaTeX."""
    cells = result_cells(summary)
    return {"table.csv": csv_table(summary), "table.md": markdown_table(cells), "table.tex": latex_table(cells)}


def csv_table(summary: Mapping[str, Any]) -> str:
    """Return the figures behind the cells, not rounded, empty where undefined: for programs rather than people."""
    names = [name for column in result_columns(summary) for name in column.fields]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["method", *names])
    for method, figures in summary["methods"].items():
        writer.writerow([printable(method), *("" if figures[name] is None else figures[name] for name in names)])
    return stream.getvalue()


def markdown_table(cells: ResultCells) -> str:
    """Return a Markdown table (GitHub's), then the notes as a list."""
    lines = [cells.heading, ["---", *("---:" for _ in cells.heading[1:])], *cells.lines]
    lines[0] = [_one_line(heading) for heading in cells.heading]
    texts = ["| " + " | ".join(cell if i == 1 else escape_markdown(cell) for cell in line) + " |"
             for i, line in enumerate(lines)]  # fmt: skip
    return "\n".join([*texts, "", *(f"- {escape_markdown(note)}" for note in cells.notes)]).rstrip() + "\n"


def latex_table(cells: ResultCells) -> str:
    """Return a LaTeX tabular; the notes are comments above it."""
    heading = [_stacked(text) if "\n" in text else escape_latex(text) for text in cells.heading]
    lines = [
        r"% Needs \usepackage{booktabs}.",
        *("% " + _one_line(printable(note)) for note in cells.notes),
        rf"\begin{{tabular}}{{l{'r' * (len(heading) - 1)}}}",
        r"\toprule",
        " & ".join(heading) + r" \\",
        r"\midrule",
        *(" & ".join(map(_latex_cell, line)) + r" \\" for line in cells.lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def html_table(cells: ResultCells, swatches: Mapping[str, str] | None = None) -> str:
    """Return an HTML table and its notes; a line break in a heading stays one.

    Arguments:
        swatches: method -> HTML before its name.
    """
    before = swatches or {}
    heading = "".join(
        f'<th scope="col">{"<br>".join(map(escape_html, text.split(chr(10))))}</th>' for text in cells.heading
    )
    lines = "".join(
        f'<tr><th scope="row">{before.get(line[0], "")}{escape_html(line[0])}</th>'
        + "".join(f"<td>{_html_figure(cell)}</td>" for cell in line[1:]) + "</tr>\n"
        for line in cells.lines
    )  # fmt: skip
    notes = "".join(f"<li>{escape_html(note)}</li>" for note in cells.notes)
    return (
        f'<div class="wide"><table class="results"><thead><tr>{heading}</tr></thead>\n<tbody>\n{lines}</tbody></table>'
        f'</div>\n<ul class="notes">{notes}</ul>\n'
    )


def escape_html(text: object) -> str:
    """Return `text` as it may stand in HTML, in an attribute too."""
    return html.escape(printable(str(text)), quote=True)


def breakable_html(text: object) -> str:
    """Return `text` in HTML that may break after slashes and underscores."""
    return escape_html(text).replace("/", "/<wbr>").replace("_", "_<wbr>")


def escape_latex(text: str) -> str:
    """Return `text` as LaTeX prints it, in text mode."""
    return "".join(_LATEX.get(character, character) for character in _one_line(printable(text)))


def escape_markdown(text: str) -> str:
    """Return `text` as Markdown prints it in a table's cell."""
    return re.sub(r"([\\`*_\[\]|<>~#])", r"\\\1", _one_line(printable(text)))


def printable(text: str) -> str:
    """Return `text` without what no file can hold: control characters and the halves of broken file names."""
    whole = text.encode("utf-8", "replace").decode()
    return "".join(character if character >= " " or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
                   for character in whole)  # fmt: skip


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))


def _stacked(text: str) -> str:
    return r"\shortstack[r]{" + r"\\".join(map(escape_latex, text.split("\n"))) + "}"


def _latex_cell(text: str) -> str:
    return re.sub(r"^-(?=\d)", "$-$", escape_latex(text))


def _html_figure(text: str) -> str:
    """Return a figure with its interval set back, and a real minus sign."""
    mean, plus_minus_sign, half_width = escape_html(re.sub(r"^-(?=\d)", "−", text)).partition(" ± ")
    return f'{mean}<span class="interval">{plus_minus_sign}{half_width}</span>' if plus_minus_sign else mean
