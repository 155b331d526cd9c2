"""The table of joint recognition (`rayfs.statistics.joint_summary`)."""

from collections.abc import Mapping

from rayfs.reports.result_table import ResultTable
from rayfs.reports.text_table import plus_minus
from rayfs.statistics.joint_summary import JointFigures


def joint_cells(joint: Mapping[str, JointFigures], baseline: str | None, n_base: int) -> ResultTable:
    """Return the table of `summarise_joint`'s figures."""
    heading = ["joint recognition", "n", "novel %\n± 95% CI", "base %\n± 95% CI", "harmonic mean %\n± 95% CI"]
    heading += [f"gain vs\n{baseline}\n± paired 95% CI"] if baseline else []
    lines = [
        [
            name, str(figures.n),
            plus_minus(figures.novel, figures.novel_ci95), plus_minus(figures.base, figures.base_ci95),
            plus_minus(figures.harmonic, figures.harmonic_ci95),
            *([plus_minus(figures.gain, figures.gain_ci95, sign="+")] if baseline else []),
        ]
        for name, figures in joint.items()
    ]  # fmt: skip
    note = f"Among the episode's and {n_base} base classes by the nearest class mean; the embedding has seen the base"
    return ResultTable(heading=heading, lines=lines, notes=(f"{note} images: compare methods by it, nothing else.",))
