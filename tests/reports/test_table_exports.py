"""The result table as CSV, Markdown, LaTeX and HTML."""

from collections.abc import Callable

import pytest

from rayfs.reports.document import Note, Table
from rayfs.reports.render import breakable, render_block
from rayfs.reports.result_table import ResultTable
from rayfs.reports.summary_table import summary_table
from rayfs.reports.table_exports import (
    csv_table,
    escape_latex,
    escape_markdown,
    latex_table,
    markdown_table,
    table_files,
    text_table,
)
from rayfs.runs.rows import Row
from rayfs.statistics.summary import RunSummary, summarise

MakeRow = Callable[..., Row]


@pytest.fixture(scope="module")
def summary(make_row: MakeRow) -> RunSummary:
    rows = [make_row(i, "lr", a) for i, a in enumerate([0.80, 0.82, 0.78, 0.80])]
    rows += [make_row(i, "label-halluc", a, seconds=12.345) for i, a in enumerate([0.75, 0.77, 0.75])]
    rows += [make_row(3, "label-halluc", None)]
    return summarise(rows, "lr", ["label-halluc", "lr"])


def test_the_markdown_table_is_this_text(summary: RunSummary) -> None:
    assert markdown_table(summary_table(summary)) == (
        "| method | n (distinct) | accuracy % ± 95% CI | gain vs lr ± paired 95% CI | win/tie/loss | p "
        "| s per episode |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| label-halluc | 3 (3) | 75.67 ± 2.87 | -4.33 ± 2.87 | 0/0/3 | 0.2500 | 12.3 |\n"
        "| lr | 4 (4) | 80.00 ± 2.60 | – | – | – | 1.5 |\n"
        "\n"
        "- p: Wilcoxon signed-rank test, two-sided, on the same episodes.\n"
        "- Episodes needed for ±0.5 points: label-halluc 23, lr 44.\n"
        "- label-halluc: 1 failed episodes are not in the means.\n"
    )


def test_the_latex_table_is_this_text(summary: RunSummary) -> None:
    assert latex_table(summary_table(summary)) == (
        "% Needs \\usepackage{booktabs}.\n"
        "% p: Wilcoxon signed-rank test, two-sided, on the same episodes.\n"
        "% Episodes needed for ±0.5 points: label-halluc 23, lr 44.\n"
        "% label-halluc: 1 failed episodes are not in the means.\n"
        "\\begin{tabular}{lrrrrrr}\n"
        "\\toprule\n"
        "method & \\shortstack[r]{n\\\\(distinct)} & \\shortstack[r]{accuracy \\%\\\\$\\pm$ 95\\% CI} & "
        "\\shortstack[r]{gain vs\\\\lr\\\\$\\pm$ paired 95\\% CI} & win/tie/loss & p & "
        "\\shortstack[r]{s per\\\\episode} \\\\\n"
        "\\midrule\n"
        "label-halluc & 3 (3) & 75.67 $\\pm$ 2.87 & $-$4.33 $\\pm$ 2.87 & 0/0/3 & 0.2500 & 12.3 \\\\\n"
        "lr & 4 (4) & 80.00 $\\pm$ 2.60 & -- & -- & -- & 1.5 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def test_the_csv_table_has_the_figures_unrounded_and_empty_where_undefined(summary: RunSummary) -> None:
    lines = csv_table(summary_table(summary)).splitlines()
    assert lines[0] == ("method,n,n_distinct,accuracy,ci95,gain,gain_ci95,win,tie,loss,p_wilcoxon,seconds_per_episode")
    figures = summary.methods["label-halluc"]
    assert lines[1] == (
        f"label-halluc,3,3,{figures.accuracy!r},{figures.ci95!r},{figures.gain!r},{figures.gain_ci95!r},"
        "0,0,3,0.25,12.345"
    )
    assert lines[2].endswith(",,,,,,,1.5") and len(lines) == 3


def test_the_html_table_sets_intervals_back_and_has_a_minus_sign(summary: RunSummary) -> None:
    html = render_block(Table(summary_table(summary), colours={"lr": "var(--base)"}))
    assert '<td>−4.33<span class="interval"> ± 2.87</span></td>' in html
    assert (
        '<th scope="row"><i class="swatch" style="background:var(--base)"></i>lr</th>' in html
        and "gain vs<br>lr<br>" in html
    )
    assert "<li>p: Wilcoxon" in html


def test_every_table_has_the_same_cells(summary: RunSummary) -> None:
    table = summary_table(summary)
    for content in (*table_files(table).values(), text_table(table), render_block(Table(table))):
        assert content.count("label-halluc") >= 1 and "12.3" in content


@pytest.mark.parametrize(
    ("text", "html", "latex", "markdown"),
    [
        ("<b>&", "&lt;b&gt;&amp;", r"\textless{}b\textgreater{}\&", r"\<b\>&"),
        ("a_b|c", "a_b|c", r"a\_b\textbar{}c", r"a\_b\|c"),
        ("50% \\x{", "50% \\x{", r"50\% \textbackslash{}x\{", r"50% \\x{"),
        ("\x07\udcff", "\N{REPLACEMENT CHARACTER}?", "\N{REPLACEMENT CHARACTER}?", "\N{REPLACEMENT CHARACTER}?"),
        ("two\nlines", "two\nlines", "two lines", "two lines"),
    ],
)
def test_texts_are_escaped(text: str, html: str, latex: str, markdown: str) -> None:
    assert render_block(Note(text)) == f"<p>{html}</p>" and str(breakable(text)).replace("<wbr>", "") == html
    assert escape_latex(text) == latex
    assert escape_markdown(text) == markdown


def test_a_note_cannot_end_its_latex_comment() -> None:
    cells = ResultTable(heading=["method"], lines=[["lr"]], notes=("a\n\\input{secret}",))
    assert "% a \\input{secret}\n" in latex_table(cells)
