"""Imports that wait until something is used: a registry names what it lists; torch is imported where it is needed."""

from importlib import import_module
from typing import Any


def imported(reference: str) -> Any:
    """Return what "module:name" names. `reference` stands in a definition in code; it never comes from what is read."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
