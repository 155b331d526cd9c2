"""A result table for terminals, spreadsheets and papers: text, CSV, Markdown and LaTeX of the same cells."""

import csv
import io
import re

from rayfs.reports.printable import printable
from rayfs.reports.result_table import ResultTable
from rayfs.reports.text_table import NONE, aligned

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", NONE: "--", '"': r"\textquotedbl{}",
}  # fmt: skip


def table_files(table: ResultTable) -> dict[str, str]:
    """Return file name -> content of a table as CSV, Markdown and LaTeX."""
    return {"table.csv": csv_table(table), "table.md": markdown_table(table), "table.tex": latex_table(table)}


def text_table(table: ResultTable) -> str:
    """Return a table for a terminal, then its notes, a line each."""
    return "\n".join([aligned([table.heading, *table.lines]), *table.notes]) + "\n"


def csv_table(table: ResultTable) -> str:
    """Return the figures behind the cells, not rounded, empty where undefined: for programs rather than people."""
    assert table.unrounded is not None, "a table that is written as CSV has unrounded figures"
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.unrounded.heading)
    for name, *figures in table.unrounded.lines:
        writer.writerow([printable(str(name)), *("" if figure is None else figure for figure in figures)])
    return stream.getvalue()


def markdown_table(table: ResultTable) -> str:
    """Return a Markdown table (GitHub's), then the notes as a list."""
    rule = " | ".join(["---", *("---:" for _ in table.heading[1:])])
    heading, *lines = (" | ".join(map(escape_markdown, line)) for line in [table.heading, *table.lines])
    rows = [f"| {line} |" for line in (heading, rule, *lines)]
    return "\n".join([*rows, "", *(f"- {escape_markdown(note)}" for note in table.notes)]).rstrip() + "\n"


def latex_table(table: ResultTable) -> str:
    """Return a LaTeX tabular; the notes are comments above it."""
    heading = [_stacked(text) if "\n" in text else escape_latex(text) for text in table.heading]
    lines = [
        r"% Needs \usepackage{booktabs}.",
        *("% " + _one_line(printable(note)) for note in table.notes),
        rf"\begin{{tabular}}{{l{'r' * (len(heading) - 1)}}}",
        r"\toprule",
        " & ".join(heading) + r" \\",
        r"\midrule",
        *(" & ".join(map(_latex_cell, line)) + r" \\" for line in table.lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Return `text` as LaTeX prints it, in text mode."""
    return "".join(_LATEX.get(character, character) for character in _one_line(printable(text)))


def escape_markdown(text: str) -> str:
    """Return `text` as Markdown prints it in a table's cell."""
    return re.sub(r"([\\`*_\[\]|<>~#])", r"\\\1", _one_line(printable(text)))


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))


def _stacked(text: str) -> str:
    return r"\shortstack[r]{" + r"\\".join(map(escape_latex, text.split("\n"))) + "}"


def _latex_cell(text: str) -> str:
    return re.sub(r"^-(?=\d)", "$-$", escape_latex(text))
