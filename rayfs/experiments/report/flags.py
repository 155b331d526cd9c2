"""Flags of the report job."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rayfs.errors import InputError
from rayfs.flags.flag import Shown


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Which run, and where its report goes."""

    run: Annotated[str, Shown(positional=True, value="RUN", title="Run")]
    """The run directory: a local path or URI."""
    out: Annotated[Path | None, Shown(value="FILE", title="Output")] = None
    """Write the page to this file, and nothing into the run. Default: report.html and table.csv, .md and .tex in it."""

    def __post_init__(self) -> None:
        if self.out is not None and self.out.suffix not in (".html", ".htm"):
            raise InputError(f"--out is {self.out}; expected the name of an HTML file, such as report.html")
