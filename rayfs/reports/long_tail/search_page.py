"""The page of a search over settings of knowledge transfer."""

import shlex
from collections.abc import Sequence

from rayfs.redaction import without_secrets
from rayfs.reports import page
from rayfs.reports.long_tail.figures import draw_search
from rayfs.reports.table_exports import escape_html
from rayfs.runs.long_tail_results import TunedEnsemble

TUNE_PAGE = "tune.html"
N_LISTED = 20
"""Settings in the table, best first."""


def build_search_page(benchmark: str, tuned: TunedEnsemble, paste: str, command: Sequence[str]) -> str:
    """Return the page: the best setting as a command to paste, all settings against τ, the best in a table."""
    title = f"{benchmark}, thresholds and τ of knowledge transfer"
    ranked = sorted(tuned.scored, key=lambda s: -s.value(tuned.objective))[:N_LISTED]
    groups = list(tuned.reference.accuracy)
    named = [*((str(i + 1), scored) for i, scored in enumerate(ranked)), ("--k and --tau", tuned.reference)]
    lines = [(name, s.setting.describe(), *(f"{s.accuracy[g]:.2f}" for g in groups)) for name, s in named]
    lead = (
        f"{len(tuned.scored):,} settings on {tuned.n_images:,} validation images; test images chose nothing. Expect "
        "less of the best elsewhere: it was chosen on these."
    )
    head = (
        f"<header><h1>{escape_html(title)}</h1>\n<p class=lead>{escape_html(lead)}</p>\n"
        f"<h4>The best, to evaluate on test images</h4><pre>{escape_html(paste)}</pre></header>"
    )
    drawn = page.plot(draw_search(tuned), f"Validation accuracy ({tuned.objective}) against τ", "A point each setting.")
    table = page.plain_table(["", "setting", *(f"{g} %" for g in groups)], lines, n_texts=2)
    again = escape_html(without_secrets(shlex.join(command)))
    sections = [head, page.section("Settings", drawn), page.section("Best settings", table)]
    return page.page(title, sections, "", footer=f"Made by <code>{again}</code>")
