"""The objectives as flags: a setting of any objective is a flag, and `--help-objective NAME` lists those of one."""

from collections.abc import Mapping
from typing import Any

from rayfs.flags.flag import Catalogue, Entry
from rayfs.flags.help_text import Line, columns, page_width, value_text
from rayfs.flags.settings_help import settings_table
from rayfs.training.objectives.definition import ObjectiveDefinition
from rayfs.training.objectives.registry import OBJECTIVES

BENCHMARKS = (
    "cifar-fs", "fc100", "mini-imagenet", "tiered-imagenet", "cifar100-lt", "imagenet-lt", "places-lt",
)  # fmt: skip
"""Benchmarks that published values are listed for; others have those of CIFAR-FS (ours)."""


def objective_entries() -> dict[str, Entry]:
    """Return name -> summary and settings of every objective."""
    return {name: Entry(summary=found.summary, settings=found.settings) for name, found in OBJECTIVES.items()}


def describe_objective(name: str, values: Mapping[str, Any]) -> str:
    """Return the help of one objective: its own settings, its teacher, and what is published for which benchmark.

    Arguments:
        values: flag -> value; benchmark is read.
    """
    definition = OBJECTIVES[name]
    parts = [f"{name}: {definition.summary}."]
    if definition.teacher is not None:
        parts.append(f"Learns from --teacher CHECKPOINT, made by --objective {definition.teacher.made_by}.")
    benchmark = values["benchmark"]
    own = _own_values(definition, benchmark)
    if own:
        table = settings_table(definition.settings, {setting: (own[setting],) for setting in own}, (benchmark,))
        parts.append(f"Settings of its own on {benchmark} (another: --benchmark NAME):\n\n{table}")
    published = "\n".join(columns(_published(definition), page_width()))
    parts.append(f"Published values by benchmark; flags go before them:\n\n{published}")
    return "\n\n".join(parts)


def _own_values(definition: ObjectiveDefinition, benchmark: str) -> dict[str, Any]:
    """Return setting -> default on a benchmark."""
    recipe = definition.recipe(benchmark)
    defaults = definition.settings()
    return {name: recipe.get(name, getattr(defaults, name)) for name in definition.setting_names}


def _published(definition: ObjectiveDefinition) -> list[Line]:
    """Return one line for each different recipe: the benchmarks that have it, and its values."""
    benchmarks: dict[str, list[str]] = {}
    for benchmark in BENCHMARKS:
        recipe = definition.recipe(benchmark)
        text = ", ".join(f"{name} {value_text(value)}" for name, value in recipe.items())
        benchmarks.setdefault(text, []).append(benchmark)
    if len(benchmarks) == 1:
        return [Line(name="all", text=text) for text in benchmarks]
    return [Line(name=", ".join(names), text=text) for text, names in benchmarks.items()]


OBJECTIVE_CATALOGUE = Catalogue(word="objective", entries=objective_entries, describe=describe_objective)
"""The objectives, as command lines choose them."""
