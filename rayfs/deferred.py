"""Imports that wait until something is used: a registry names what it lists; torch is imported where it is needed."""

from importlib import import_module
from typing import Any


def imported(reference: str) -> Any:
    """Return what "rayfs.module:name" names. For names in this package's own code, never for text that is read.

    Raises:
        ValueError: the module is not of this package.
    """
    module, _, name = reference.partition(":")
    if not module.startswith("rayfs."):
        raise ValueError(f"{reference} is not of this package")
    return getattr(import_module(module), name)
