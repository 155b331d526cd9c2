"""The methods as flags: a setting of any method is a flag of its own, and `--help-method NAME` lists those of one."""

import textwrap
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from rayfs.errors import InputError
from rayfs.flags.flag import Catalogue, Entry
from rayfs.flags.help_text import page_width
from rayfs.flags.settings_help import settings_table
from rayfs.methods.configs import CONFIGS
from rayfs.methods.recipes import BENCHMARK_RECIPES, RECIPES, RecipeName, default_protocol, resolve

_SUMMARIES = {
    "lr": "logistic regression on the frozen backbone; the baseline of every gain",
    "nearest-prototype": "nearest class mean on the frozen backbone",
    "support-only": "finetunes on the support images alone",
    "hard-label": "finetunes on support and base images under their hard pseudo-labels",
    "label-halluc": "Label Hallucination: finetunes with soft pseudo-labels of base images",
    "assoalign": "associative alignment: finetunes with base images related to the support",
    "feature-distill": "finetunes on the support while features of base images stay as they were",
}


def method_entries() -> dict[str, Entry]:
    """Return name -> summary and settings of every method."""
    return {name: Entry(summary=_SUMMARIES[name], settings=settings) for name, settings in CONFIGS.items()}


def method_names() -> tuple[str, ...]:
    """Return the names of all methods."""
    return tuple(method_entries())


def describe_method(name: str, values: Mapping[str, Any]) -> str:
    """Return the help of one method: its settings, and their defaults in the episodes that the other flags ask for.

    Arguments:
        values: flag -> value; benchmark, n_way and n_shot are read.

    Raises:
        InputError: a protocol that no method has settings for.
    """
    benchmark, protocol = values["benchmark"], default_protocol(values["benchmark"])
    n_way, n_shot = (protocol[key] if values[key] is None else values[key] for key in ("n_way", "n_shot"))
    if n_way < 2 or n_shot < 1:
        raise InputError(f"--n-way is {n_way} and --n-shot {n_shot}; expected at least 2 and 1")
    entry = method_entries()[name]
    chosen = {recipe: resolve(name, benchmark, n_way, n_shot, {}, recipe) for recipe in recipes_of(benchmark)}
    defaults = {
        setting.name: tuple(getattr(config, setting.name) for config in chosen.values())
        for setting in fields(cast(Any, entry.settings))
    }
    example = next(iter(defaults)).replace("_", "-")
    about = (
        f"Settings in {n_way}-way {n_shot}-shot episodes of {benchmark} (other episodes: --benchmark, --n-way, "
        f"--n-shot). --{example} is for every method that has the setting; {name}:{example}=... in --methods is for "
        "one."
    )
    table = settings_table(entry.settings, defaults, tuple(chosen))
    head = [textwrap.fill(text, page_width()) for text in (f"{name}: {entry.summary}.", about)]
    return "\n\n".join([*head, table])


def recipes_of(benchmark: str) -> tuple[RecipeName, ...]:
    """Return what --recipe takes on `benchmark`: one that has a recipe of its own has no fast one."""
    return ("released",) if benchmark in BENCHMARK_RECIPES else tuple(RECIPES)


METHODS = Catalogue(word="method", entries=method_entries, describe=describe_method)
"""The methods, as command lines choose them."""
