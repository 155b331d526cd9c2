"""The failed rows of a run, with the end of their tracebacks."""

from collections.abc import Sequence

from rayfs.reports.document import Block, Code, Note, Section
from rayfs.runs.rows import Row

MAX_FAILED, ERROR_LINES = 20, 12
"""Most failed rows that are shown, and the last lines of each traceback."""


def failures(rows: Sequence[Row]) -> Section:
    """Return the section of the failed rows; empty if there are none."""
    failed = [row for row in rows if row.status == "failed"]
    blocks: list[Block] = [_failure(row) for row in failed[:MAX_FAILED]]
    if len(failed) > MAX_FAILED:
        blocks.append(Note(f"{len(failed) - MAX_FAILED:,} more are in the rows of the run.", "muted"))
    n_rows = "1 row" if len(failed) == 1 else f"{len(failed):,} rows"
    prose = f"{n_rows} failed and count in no figure. The run's own command tries them again."
    return Section("Failed episodes", blocks, prose)


def _failure(row: Row) -> Code:
    lines = row.error.strip().splitlines()
    where = f", on {row.node} {row.device}".rstrip() if row.node or row.device else ""
    cut = ["…"] if len(lines) > ERROR_LINES else []
    heading = f"Episode {row.episode}, {row.method}: failed, attempt {row.attempt}{where}"
    return Code("\n".join([*cut, *lines[-ERROR_LINES:]]) or "No traceback.", heading)
