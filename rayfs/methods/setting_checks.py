"""What settings refuse about themselves, with the value that was given and the one that was expected. No torch here."""

import math
from typing import Literal, get_args, get_origin, get_type_hints

from rayfs.errors import InputError


def refuse_below(settings: object, least: int, *names: str) -> None:
    """Refuse numbers below `least`."""
    for name in names:
        if getattr(settings, name) < least:
            raise InputError(f"{name} is {getattr(settings, name)}; expected at least {least}")


def refuse_unless_positive(settings: object, *names: str) -> None:
    """Refuse numbers that are not finite and above 0."""
    for name in names:
        if not 0 < getattr(settings, name) < math.inf:
            raise InputError(f"{name} is {getattr(settings, name)}; expected a positive number")


def refuse_negative(settings: object, *names: str) -> None:
    """Refuse numbers that are not finite and at least 0."""
    for name in names:
        if not 0 <= getattr(settings, name) < math.inf:
            raise InputError(f"{name} is {getattr(settings, name)}; expected zero or a positive number")


def refuse_unknown_choices(settings: object) -> None:
    """Refuse a word that a `Literal` field does not list: the methods would take it for the field's other word."""
    for name, hint in get_type_hints(type(settings)).items():
        if get_origin(hint) is Literal and getattr(settings, name) not in get_args(hint):
            raise InputError(f"{name} is '{getattr(settings, name)}'; expected {' or '.join(get_args(hint))}")
