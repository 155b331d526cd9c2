"""Figures and tables as plain text, for terminals and logs."""

from collections.abc import Sequence

NONE = "–"
"""Shown where a figure is undefined."""


def plus_minus(mean: float | None, half_width: float | None, sign: str = "", digits: int = 2) -> str:
    """Return "90.12 ± 1.70"; the mean alone where there is no interval; `sign` "+" shows the sign of the mean."""
    if mean is None:
        return NONE
    text = f"{mean:{sign}.{digits}f}"
    return text if half_width is None else f"{text} ± {half_width:.{digits}f}"


def probability(p: float | None) -> str:
    """Return a p value with four decimals."""
    return NONE if p is None else "<0.0001" if p < 0.0001 else f"{p:.4f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lay out `rows`, the first of which is a header of perhaps several lines; the first column is set left."""
    depth = max(cell.count("\n") for cell in rows[0]) + 1
    header = [([""] * depth + cell.split("\n"))[-depth:] for cell in rows[0]]
    lines = [list(line) for line in zip(*header, strict=True)] + [list(row) for row in rows[1:]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        " │ ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    text.insert(depth, "─┼─".join("─" * width for width in widths))
    return "\n".join(line.rstrip() for line in text)
