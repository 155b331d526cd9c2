"""The methods as flags: a setting of any method is a flag of its own, and `--help-method NAME` lists those of one."""

import textwrap
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rayfs.errors import InputError
from rayfs.flags.flag import Catalogue, Entry
from rayfs.flags.help_text import page_width
from rayfs.flags.settings_help import settings_table
from rayfs.methods import registry
from rayfs.methods.finetuning.recipe import recipes_of
from rayfs.methods.recipe import default_protocol
from rayfs.methods.variants import resolve

SOURCES = (
    "In brackets: the source. Paper and code are those of Label Hallucination; ours is rayfs. Values that are for "
    "omniglot alone are ours (jobs/RESULTS.md)."
)
"""What the words in brackets mean in the descriptions of settings."""


def method_entries() -> dict[str, Entry]:
    """Return name -> summary, settings and aliases of every method."""
    return {
        method.name: Entry(summary=method.summary, settings=method.settings, aliases=method.aliases)
        for method in registry.METHODS
    }


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
    method = registry.find(name)
    chosen = {recipe: resolve(name, benchmark, n_way, n_shot, {}, recipe) for recipe in recipes_of(benchmark)}
    defaults = {
        setting.name: tuple(getattr(settings, setting.name) for settings in chosen.values())
        for setting in fields(method.settings)
    }
    return "\n\n".join([
        textwrap.fill(f"{method.name}: {method.summary}.", page_width()),
        textwrap.fill(_about(method.name, next(iter(defaults), None), benchmark, n_way, n_shot), page_width()),
        settings_table(method.settings, defaults, tuple(chosen)) if defaults else "It has no settings.",
    ])  # fmt: skip


def _about(name: str, setting: str | None, benchmark: str, n_way: int, n_shot: int) -> str:
    """Return which episodes the defaults are of, and how a setting is given; `setting`: one of them, as an example."""
    episodes = (
        f"Settings in {n_way}-way {n_shot}-shot episodes of {benchmark} (other episodes: --benchmark, --n-way, "
        "--n-shot)."
    )
    if setting is None:
        return episodes
    flag = setting.replace("_", "-")
    return (
        f"{episodes} --{flag} is for every method that has the setting; {name}:{flag}=... in --methods is for one. "
        f"{SOURCES}"
    )


METHOD_CATALOGUE = Catalogue(
    word="method", entries=method_entries, describe=describe_method
)  # fmt: skip
"""The methods, as command lines choose them."""
