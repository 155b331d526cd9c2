"""Published tables: one type, all papers in one registry."""

import subprocess
import sys

import pytest

from rayfs.errors import InputError
from rayfs.long_tail.groups import GROUPS
from rayfs.reports.published import compositional, registry
from rayfs.reports.published.registry import PAPERS, published_table
from rayfs.reports.published.table import Cell, Paper, PublishedRow, PublishedTable


def test_every_table_is_of_its_paper_and_has_figures_in_percent() -> None:
    for paper, tables in PAPERS.items():
        for table in tables.values():
            assert table.paper.key == paper and table.backbone and table.source.startswith(table.name)
            figures = [cell for row in table.rows for cell in row.cells.values()]
            assert figures and all(5 < cell.accuracy < 100 and (cell.ci95 or 1) < 3 for cell in figures)


def test_a_table_of_the_default_paper_needs_no_paper_before_its_name() -> None:
    assert published_table("3") is published_table("label-halluc:3") is PAPERS["label-halluc"]["3"]


def test_a_table_of_which_nothing_can_be_run_is_refused() -> None:
    with pytest.raises(InputError, match="--table is 'compositional:1'; expected one of 2 "):
        published_table("compositional:1")


def test_another_paper_is_a_module_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = Paper(key="other", reference="A. Author, 2030", short="Author, 2030")
    row = PublishedRow(label="theirs", embedding="rfs-simple", method="lr", cells={("fc100", 5): Cell(accuracy=50.0)})
    more = PublishedRow(label="more", cells={("fc100", 1): Cell(accuracy=40.0)})
    table = PublishedTable(
        paper=paper, name="table 1", title="all", backbone="Conv-4", runs_as="conv4", rows=(row, more)
    )
    assert table.columns("fc100") == (1, 5)
    monkeypatch.setitem(registry.PAPERS, "other", {"1": table})
    assert published_table("other:1") is table
    with pytest.raises(InputError, match=r", other:1 \(all\)$"):
        published_table("9")


def test_columns_are_shots_ascending_or_groups_as_they_stand() -> None:
    table = published_table("2")
    assert table.benchmarks == ("cifar-fs", "fc100") and table.columns("fc100") == (1, 5)
    assert table.columns("omniglot") == () and published_table("20-way").columns("fc100") == (10,)
    places = compositional.TABLES["9-supervised-root"]
    assert places.columns("places-lt") == ("many", "medium", "few", "all")
    assert compositional.UNSEEN_TABLES["2-unseen"].rows[0].cells.keys() == {
        ("imagenet-lt", "many"), ("imagenet-lt", "medium"),
    }  # fmt: skip


def test_groups_of_the_published_long_tail_are_ours() -> None:
    assert compositional.GROUPS == GROUPS


def test_tables_open_without_numpy_so_that_help_answers_at_once() -> None:
    code = "import rayfs.reports.published.registry, sys; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
