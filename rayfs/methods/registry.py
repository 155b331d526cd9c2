"""All methods. Adding one is a module, or a package, of its own with a `METHOD`, and a line in `MODULES`.

The module holds the settings and the definition and imports no torch, as nothing here does, so that `--help` answers
fast. What solves episodes imports torch inside its functions, or is in a module of its own (`label_halluc/solve.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rayfs.deferred import imported
from rayfs.errors import InputError
from rayfs.methods.definition import MethodDefinition, MethodSettings
from rayfs.methods.needs import Needs

if TYPE_CHECKING:
    from rayfs.methods.method import Method

MODULES = (
    "logistic_regression",
    "nearest_prototype",
    "support_only",
    "hard_label",
    "label_halluc",
    "assoalign",
    "feature_distill",
)
"""Modules of this folder that define a method, in the order of help and messages."""

METHODS: tuple[MethodDefinition[Any], ...] = tuple(imported(f"rayfs.methods.{module}:METHOD") for module in MODULES)
"""What --methods takes."""

BASELINE = "logistic-regression"
"""The baseline of every gain where it is run."""


def names() -> tuple[str, ...]:
    """Return the names of all methods, without aliases."""
    return tuple(method.name for method in METHODS)


def find(name: str) -> MethodDefinition[Any]:
    """Return the method of this name or alias.

    Raises:
        InputError: there is none.
    """
    for method in METHODS:
        if name in (method.name, *method.aliases):
            return method
    raise InputError(f"there is no method '{name}'; expected some of {', '.join(names())}")


def method_of(settings: MethodSettings) -> MethodDefinition[Any]:
    """Return the method whose settings these are."""
    for method in METHODS:
        if method.settings is type(settings):
            return method
    raise ValueError(f"no method in the registry has settings of the type {type(settings).__name__}")


def needs_of(settings: MethodSettings) -> Needs:
    """Return what the method with these settings needs."""
    return method_of(settings).needs(settings)


def create_method(settings: MethodSettings) -> Method:
    """Import what solves episodes with these settings, and make one."""
    return method_of(settings).create(settings)


def owners(setting: str) -> list[str]:
    """Return the names of the methods that have a setting."""
    return [method.name for method in METHODS if setting in method.setting_names]


def canonical(spec: str) -> str:
    """Return a method or variant under its proper name: "lr:c=10" is "logistic-regression:c=10".

    Runs that were written before have other names for some methods. A name of no method stays as it is.
    """
    name, colon, settings = spec.partition(":")
    proper = next((method.name for method in METHODS if name in method.aliases), name)
    return f"{proper}{colon}{settings}"


def with_canonical_names(methods: Mapping[str, Any]) -> dict[str, Any]:
    """Return `methods`, whose keys are methods or variants, with these under their proper names."""
    return {canonical(spec): value for spec, value in methods.items()}
