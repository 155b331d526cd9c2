"""Pages as data: every block is shown, every text stays text, what is empty is left out."""

import re
from typing import get_args

import pytest
from markupsafe import Markup

from rayfs.reports.document import (
    AnswerKey,
    Block,
    Code,
    ColourKey,
    Facts,
    Figure,
    Folded,
    Gallery,
    Grid,
    Note,
    Picture,
    Report,
    Section,
    Strip,
    Table,
)
from rayfs.reports.render import render, render_block, split_cell
from rayfs.reports.result_table import ResultTable

HOSTILE = "<script>alert('1')</script>\"&\x07\udcff"
SAFE = re.compile(r"&lt;(<wbr>)?script&gt;")
CELLS = ResultTable(heading=[HOSTILE, HOSTILE], lines=[[HOSTILE, HOSTILE]], notes=(HOSTILE,))
SVG = Markup("<svg></svg>")
PICTURE = Picture(description=HOSTILE, state="wrong", answers=["", HOSTILE], value=HOSTILE, name=HOSTILE)
STRIP = Strip(source=HOSTILE, smooth=True, pictures=[PICTURE], caption=HOSTILE, large=True)

BLOCKS: list[tuple[Block, int]] = [
    (Section(HOSTILE, [Note("x")], HOSTILE), 2),
    (Note(HOSTILE, "warning"), 1),
    (Facts({HOSTILE: HOSTILE}), 2),
    (Code(HOSTILE, HOSTILE), 2),
    (Table(CELLS, HOSTILE, HOSTILE, {HOSTILE: HOSTILE}), 8),
    (Table(ResultTable(heading=[HOSTILE], lines=[[HOSTILE]], n_texts=1)), 2),
    (Figure(SVG, HOSTILE, HOSTILE), 2),
    (Grid([Note(HOSTILE)]), 1),
    (Folded(HOSTILE, [Note(HOSTILE)], True), 2),
    (ColourKey([(HOSTILE, 0.5, HOSTILE)]), 2),
    (STRIP, 7),
    (Gallery(HOSTILE, [STRIP], HOSTILE), 9),
    (AnswerKey([HOSTILE, HOSTILE]), 3),
]
"""A block with a hostile text wherever it may have one, and how often the text is on the page."""


@pytest.mark.parametrize(("block", "n_texts"), BLOCKS)
def test_texts_from_outside_stay_texts_in_every_block(block: Block, n_texts: int) -> None:
    html = render_block(block)
    assert "<script" not in html and '"&"' not in html and html.count("&lt;script&gt;") == n_texts
    assert "\x07" not in html and html.encode()


def test_every_kind_of_block_is_tried() -> None:
    assert {type(block) for block, _ in BLOCKS} == set(get_args(Block))


def test_a_drawing_that_is_not_ours_is_escaped() -> None:
    assert "<svg></svg>" in render_block(Figure(SVG, "a", "b"))
    assert "<svg" not in render_block(Figure("<svg></svg>", "a", "b"))  # type: ignore[arg-type]


EMPTY: list[Block] = [
    Note(""), Code("", "heading"), Facts({"a": "", "b": ""}), Figure(Markup(), "heading"), Grid([Note("")]),
    Table(ResultTable(heading=["a"], lines=[]), "heading"), Folded("summary", [Figure(Markup())]),
    Section("heading", [Grid([]), Note("")], "prose"),
]  # fmt: skip


@pytest.mark.parametrize("block", EMPTY)
def test_what_is_empty_is_left_out(block: Block) -> None:
    shown = render_block(Section("outer", [Note("there"), block]))
    assert shown == render_block(Section("outer", [Note("there")]))


def test_a_report_has_its_parts_once_and_in_order() -> None:
    report = Report(
        title="<title>", lead="lead", facts={"Split": "test", "Commit": ""}, head=[Code("python job.py")],
        sections=[Section("First", [Note("one"), Section("Inner", [Note("two")])]), Section("Nothing", [])],
        footer="Of rows.", command="python a & b",
    )  # fmt: skip
    html = render(report)
    assert html.startswith("<!doctype html>") and html.count("<title>") == 1
    assert re.findall(r"<(h\d)>([^<]*)<", html) == [("h1", "&lt;title&gt;"), ("h2", "First"), ("h3", "Inner")]
    assert "<dt>Split</dt><dd>test</dd>" in html and "Commit" not in html and "Nothing" not in html
    assert re.search(r"Of rows\. <code>python a &amp; b</code> builds it again\.", html)
    main = html[html.index("<main>") :]
    places = [main.index(text) for text in ("lead", "Split", "python job.py", "one", "two", "Of rows")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("text", "figure", "interval", "below"),
    [
        ("-4.33 ± 2.87", "−4.33", " ± 2.87", False),
        ("+0.4 [-5.0, +16.7]", "+0.4", "[−5.0, +16.7]", True),
        ("1e-09", "1e-09", "", False),
        ("2026-11-29", "2026-11-29", "", False),
        ("a-1", "a-1", "", False),
        ("–", "–", "", False),
    ],
)
def test_a_cell_has_its_interval_apart_and_real_minus_signs(text: str, figure: str, interval: str, below: bool) -> None:
    cell = split_cell(text)
    assert (cell.figure, cell.interval, cell.below) == (figure, interval, below)


def test_a_table_with_a_cell_too_few_is_refused() -> None:
    with pytest.raises(AssertionError, match="1 cells below 2 headings"):
        ResultTable(heading=["a", "b"], lines=[["1"]])
