"""What settings of a training refuse about themselves, named as flags. No torch here."""

import math

from rayfs.errors import InputError


def flag(name: str) -> str:
    """Return the flag of a setting: `--lr-decay` of `lr_decay`."""
    return f"--{name.replace('_', '-')}"


def refuse_below(settings: object, **least: int) -> None:
    """Refuse numbers below the least one of each name; None is no number."""
    for name, minimum in least.items():
        value = getattr(settings, name)
        if value is not None and value < minimum:
            raise InputError(f"{flag(name)} is {value}; expected at least {minimum}")


def refuse_unless_positive(settings: object, *names: str) -> None:
    """Refuse numbers that are not finite and above 0."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{flag(name)} is {value}; expected a positive number")


def refuse_negative(settings: object, *names: str) -> None:
    """Refuse numbers that are not finite and at least 0."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 <= value < math.inf:
            raise InputError(f"{flag(name)} is {value}; expected zero or a positive number")


def refuse_unless_share(settings: object, *names: str) -> None:
    """Refuse numbers outside [0, 1)."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 <= value < 1:
            raise InputError(f"{flag(name)} is {value}; expected 0 or more, and less than 1")


def refuse_unknown(settings: object, name: str, known: tuple[str, ...]) -> None:
    """Refuse a word that is none of `known`; None is no word."""
    value = getattr(settings, name)
    if value is not None and value not in known:
        raise InputError(f"{flag(name)} is '{value}'; expected one of {', '.join(known)}")
