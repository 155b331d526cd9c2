"""All published tables: a new paper is a module beside this one, and a line here."""

from collections.abc import Mapping

from rayfs.errors import InputError
from rayfs.reports.published import compositional, label_halluc
from rayfs.reports.published.table import PublishedTable

PAPERS: dict[str, Mapping[str, PublishedTable]] = {
    label_halluc.PAPER.key: label_halluc.TABLES,
    compositional.PAPER.key: compositional.TABLES | compositional.UNSEEN_TABLES,
}
"""Paper -> table -> figures."""

DEFAULT_PAPER = label_halluc.PAPER.key
"""Whose tables need no paper before their name."""


def published_table(name: str) -> PublishedTable:
    """Return the table that `--table` names: "3" of the default paper, "PAPER:3" of another.

    Raises:
        InputError: there is no such table, or nothing of it can be run by `jobs/paper_table.py`.
    """
    tables = {
        table_name if paper == DEFAULT_PAPER else f"{paper}:{table_name}": table
        for paper, of_paper in PAPERS.items()
        for table_name, table in of_paper.items()
        if any(row.method for row in table.rows)
    }
    if name.removeprefix(f"{DEFAULT_PAPER}:") not in tables:
        known = ", ".join(f"{key} ({table.title})" for key, table in tables.items())
        raise InputError(f"--table is '{name}'; expected one of {known}")
    return tables[name.removeprefix(f"{DEFAULT_PAPER}:")]
