"""The page of a search over settings of knowledge transfer."""

import shlex
from collections.abc import Sequence

from rayfs.redaction import without_secrets
from rayfs.reports.document import Code, Figure, Report, Section, Table
from rayfs.reports.long_tail.figures import draw_search
from rayfs.reports.render import render
from rayfs.reports.result_table import ResultTable
from rayfs.runs.long_tail_results import TunedEnsemble

TUNE_PAGE = "tune.html"
N_LISTED = 20
"""Settings in the table, best first."""


def build_search_page(benchmark: str, tuned: TunedEnsemble, paste: str, command: Sequence[str]) -> str:
    """Return the page: the best setting as a command to paste, all settings against τ, the best in a table."""
    heading = f"Validation accuracy ({tuned.objective}) against τ"
    drawn = Figure(draw_search(tuned), heading, "A point for each setting.")
    report = Report(
        title=f"{benchmark}, thresholds and τ of knowledge transfer",
        lead=f"{len(tuned.scored):,} settings on {tuned.n_images:,} validation images; test images chose nothing. "
        "Expect less of the best elsewhere: it was chosen on these.",
        head=[Code(paste, "The best, to evaluate on test images")],
        sections=[Section("Settings", [drawn]), Section("Best settings", [Table(_best(tuned))])],
        footer="This page comes from the settings that the search has scored.",
        command=without_secrets(shlex.join(command)),
    )
    return render(report)


def _best(tuned: TunedEnsemble) -> ResultTable:
    ranked = sorted(tuned.scored, key=lambda s: -s.value(tuned.objective))[:N_LISTED]
    groups = list(tuned.reference.accuracy)
    named = [*((str(i + 1), scored) for i, scored in enumerate(ranked)), ("--k and --tau", tuned.reference)]
    lines = [(name, s.setting.describe(), *(f"{s.accuracy[g]:.2f}" for g in groups)) for name, s in named]
    return ResultTable(heading=["", "setting", *(f"{g} %" for g in groups)], lines=lines, n_texts=2)
