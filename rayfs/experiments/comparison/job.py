"""The comparison job: read one or two runs, pair their episodes, print, and write the figures where asked."""

import json
from collections.abc import Sequence
from typing import Any

from rayfs.durable_files import write_durably
from rayfs.errors import InputError
from rayfs.experiments.comparison.flags import CompareConfig
from rayfs.flags.command_line import EXIT_OK
from rayfs.methods.registry import canonical
from rayfs.reports.comparison.drawing import draw_comparisons
from rayfs.reports.comparison.table import paired_text, unpaired_text
from rayfs.runs.run_directory import EPISODE_FILE
from rayfs.runs.storage import explained
from rayfs.statistics.compared_run import ComparedRun, image_difference, other_differences, read_run
from rayfs.statistics.comparison import (
    Comparison,
    UnpairedComparison,
    compare,
    compare_unpaired,
    plain_comparison,
)
from rayfs.statistics.pairing import pair


def run_compare(config: CompareConfig) -> int:
    """Compare what `config` names and return the exit code.

    Raises:
        InputError: wrong input, above all episodes that differ.
    """
    runs = [read_run(location) for location in config.runs]
    a, b = runs[0], runs[-1]
    methods = method_pairs(runs, config.methods)
    differences = [] if a is b else _differences(a, b, methods, config)
    print("\n".join([*_heading(runs), *differences]) + "\n")
    comparisons = [_compare(a, b, pair_of_methods, config) for pair_of_methods in methods]
    paired = [comparison for comparison in comparisons if isinstance(comparison, Comparison)]
    unpaired = [comparison for comparison in comparisons if isinstance(comparison, UnpairedComparison)]
    print(unpaired_text(unpaired) if unpaired else paired_text(paired, config.target), end="")
    if paired and a.images is None and b.images is None:
        where = " or ".join(dict.fromkeys(run.location for run in runs))
        print(
            f"No {EPISODE_FILE} in {where}: which episodes share images is not known, so there is no interval "
            "without replacement. Rerun the run's command, which writes that file."
        )
    _write(config, runs, comparisons, paired, differences)
    return EXIT_OK


def method_pairs(runs: Sequence[ComparedRun], named: Sequence[str]) -> list[tuple[str, str]]:
    """Return the (method of A, method of B) to compare; B is A where there is one run.

    Raises:
        InputError: if there is nothing to compare.
    """
    a, b = runs[0], runs[-1]
    named = [canonical(name) for name in named]
    if len(named) == 2:
        return [(named[0], named[1])]
    if len(runs) == 2:
        both = [name for name in a.rows if name in b.rows]
        if not both and not named:
            raise InputError(
                f"{a.location} has rows of {', '.join(a.rows)} and {b.location} of {', '.join(b.rows)}: no method is "
                "in both; choose one of each with --methods X Y"
            )
        return [(name, name) for name in named or both]
    others = [name for name in named or a.rows if name != a.baseline]
    if not others:
        raise InputError(
            f"{a.location} has rows of {', '.join(a.rows)} and its baseline is {a.baseline}, which cannot be compared "
            "with itself; give another run, or two methods with --methods X Y"
        )
    return [(name, a.baseline) for name in others]


def _differences(a: ComparedRun, b: ComparedRun, methods: list[tuple[str, str]], config: CompareConfig) -> list[str]:
    """Refuse runs of other images or protocols unless forced; return what differs, a line each."""
    of_images = image_difference(a, b)
    if of_images is not None and not config.force_unpaired:
        raise InputError(
            f"cannot pair A = {a.location} with B = {b.location}: {of_images}; compare runs of one benchmark, split "
            "and protocol, or compare them unpaired with --force-unpaired"
        )
    said = ([of_images] if of_images else []) + other_differences(a, b, methods)
    return [f"Differs: {line}." for line in dict.fromkeys(said)]


def _heading(runs: Sequence[ComparedRun]) -> list[str]:
    if len(runs) == 1:
        return [f"A and B: two methods (A − B) of {_described(runs[0])}"]
    return [f"{letter}: {_described(run)}" for letter, run in zip("AB", runs, strict=True)]


def _described(run: ComparedRun) -> str:
    identity = run.identity
    backbone, protocol = identity.get("backbone") or {}, identity.get("protocol") or {}
    words = [
        str(identity.get("benchmark", "")),
        str(protocol.get("split", "")),
        f"{protocol.get('n_way')}-way {protocol.get('n_shot')}-shot" if protocol else "",
        " ".join(str(backbone[key]) for key in ("name", "state_hash") if key in backbone),
    ]
    return f"{run.location} ({', '.join(word for word in words if word)})"


def _compare(
    a: ComparedRun, b: ComparedRun, methods: tuple[str, str], config: CompareConfig
) -> Comparison | UnpairedComparison:
    x, y = methods
    name = x if x == y else f"{x} − {y}"
    if config.force_unpaired:
        return compare_unpaired(name, a.side(x), b.side(y))
    pairing = pair(a.side(x), b.side(y), common=config.common)
    return compare(name, pairing, {**(b.images or {}), **(a.images or {})}, config.target)


def _write(
    config: CompareConfig,
    runs: Sequence[ComparedRun],
    comparisons: Sequence[Comparison | UnpairedComparison],
    paired: Sequence[Comparison],
    differences: Sequence[str],
) -> None:
    if config.json is not None:
        figures: dict[str, Any] = {
            "a": runs[0].location,
            "b": runs[-1].location,
            "target": config.target,
            "differences": list(differences),
            "comparisons": [plain_comparison(comparison) for comparison in comparisons],
        }
        with explained(f"write --json {config.json}"):
            write_durably(config.json, (json.dumps(figures, indent=2, ensure_ascii=False) + "\n").encode())
    if config.figure is not None:
        with explained(f"write --figure {config.figure}"):
            write_durably(config.figure, draw_comparisons(paired))
