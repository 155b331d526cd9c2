"""What flags and settings refuse about their values: the value that was given, and the one that was expected.

All name a field by its flag: `lr_decay` is --lr-decay. None is no value, and passes. No torch here.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args, get_origin, get_type_hints

from rayfs.errors import InputError


def flag_of(name: str) -> str:
    """Return the flag of a field."""
    return f"--{name.replace('_', '-')}"


def refuse_below(config: object, least: int, *names: str) -> None:
    """Refuse a field of `config` that is less than `least`.

    Raises:
        InputError: one is.
    """
    expected = "0 or more" if least == 0 else f"at least {least}"
    for name in names:
        value = getattr(config, name)
        _refuse_unless(value is None or value >= least, name, value, expected)


def refuse_unless_positive(config: object, *names: str, unit: str = "a positive number") -> None:
    """Refuse a field of `config` that is no finite number above 0; `unit`: how the message calls one that is.

    Raises:
        InputError: one is not.
    """
    for name in names:
        value = getattr(config, name)
        _refuse_unless(value is None or 0 < value < math.inf, name, value, unit)


def refuse_negative(config: object, *names: str) -> None:
    """Refuse a field of `config` that is no finite number of at least 0.

    Raises:
        InputError: one is not.
    """
    for name in names:
        value = getattr(config, name)
        _refuse_unless(value is None or 0 <= value < math.inf, name, value, "zero or a positive number")


def refuse_unless_share(config: object, *names: str) -> None:
    """Refuse a field of `config` outside [0, 1).

    Raises:
        InputError: one is.
    """
    for name in names:
        value = getattr(config, name)
        _refuse_unless(value is None or 0 <= value < 1, name, value, "0 or more, and less than 1")


def refuse_other_word(config: object, name: str, known: Sequence[str]) -> None:
    """Refuse a field of `config` that is none of the words `known`.

    Raises:
        InputError: it is none.
    """
    value = getattr(config, name)
    _refuse_unless(value is None or value in known, name, f"'{value}'", f"one of {', '.join(known)}")


def refuse_other_choices(config: object) -> None:
    """Refuse a word that a `Literal` field does not list: whoever reads it would take it for the field's other word.

    Raises:
        InputError: there is one.
    """
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            refuse_other_word(config, name, get_args(hint))


def _refuse_unless(fits: bool, name: str, value: object, expected: str) -> None:
    if not fits:
        raise InputError(f"{flag_of(name)} is {value}; expected {expected}")
