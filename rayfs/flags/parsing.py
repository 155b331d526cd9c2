"""From words of a command line, or from flag names in Python, to a configuration."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass, replace
from typing import Annotated, Any, TypeVar, cast, get_type_hints

from rayfs.errors import InputError
from rayfs.flags.flag import Flag, flags_of
from rayfs.flags.refusals import refuse_unknown, why_refused

ConfigT = TypeVar("ConfigT")


def parse(config_class: type[ConfigT], argv: Sequence[str]) -> ConfigT:
    """Return the configuration that the words of a command line, without the job's name, describe.

    Raises:
        InputError: an unknown flag, a value of another type, a required flag that is missing, or a configuration that
            refuses its values.
    """
    return configured(config_class, **parsed_values(flags_of(config_class), argv))


def configured(config_class: type[ConfigT], **values: Any) -> ConfigT:
    """Return the configuration with these flags, which need no names of groups.

    Arguments:
        values: flag, as Python spells it -> value; None for a setting of a catalogue means that it is not given.

    Raises:
        TypeError: there is no such flag.
        InputError: the configuration refuses its values.
    """
    paths = {flag.name: flag.path for flag in flags_of(config_class)}
    unknown = sorted(values.keys() - paths.keys())
    if unknown:
        raise TypeError(f"{config_class.__name__} has no flag called {', '.join(unknown)}")
    given = _fields_given(config_class, {paths[name]: value for name, value in values.items()}, ())
    return config_class(**given)


def flag_values(config: object) -> dict[str, Any]:
    """Return flag -> value of a configuration, the inverse of `configured`; None for settings that are not given."""
    values = {}
    for flag in flags_of(type(config)):
        value: Any = config
        for step in flag.path:
            value = value.get(step) if isinstance(value, Mapping) else getattr(value, step)
        values[flag.name] = value
    return values


def parsed_values(flags: Sequence[Flag], argv: Sequence[str]) -> dict[str, Any]:
    """Return flag -> value, defaults included.

    Raises:
        InputError: as `parse` does.
    """
    refuse_unknown(flags, argv)
    if not argv and all(flag.default is not MISSING for flag in flags):
        return {flag.name: flag.default for flag in flags}
    import tyro  # takes longer to import than help needs for everything

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            words: Any = tyro.cli(_flat(flags), args=list(argv), add_help=False)
    except SystemExit as stopped:
        if not stopped.code:
            raise
        raise InputError(why_refused(flags, argv, said.getvalue())) from None
    return {flag.name: getattr(words, flag.name) if _is_given(flag, argv) else None for flag in flags}


def _is_given(flag: Flag, argv: Sequence[str]) -> bool:
    """Tell whether a setting that is a switch is among the words; of other flags the parser tells by itself."""
    if not _is_switch(flag):
        return True
    negated = flag.spelled.replace("--", "--no-", 1)
    return any(word.replace("_", "-") in (flag.spelled, negated) for word in argv)


def _is_switch(flag: Flag) -> bool:
    return flag.is_setting and flag.type is bool


def _flat(flags: Sequence[Flag]) -> type:
    """Return a dataclass with one field for each flag, for the parser."""
    import tyro

    columns: list[tuple[str, Any, Any]] = []
    for flag in flags:
        hint = Annotated[flag.hint, tyro.conf.Positional] if flag.shown.positional else flag.hint
        hint, default = (bool, False) if _is_switch(flag) else (hint, flag.default)
        columns.append((flag.name, hint, field() if default is MISSING else field(default=default)))
    return make_dataclass("Flags", columns, frozen=True, kw_only=True)


def _fields_given(config_class: type, values: Mapping[tuple[str, ...], Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return field -> value of the configuration or group at `path`, of what `values` has."""
    hints, given = get_type_hints(config_class), {}
    for entry in fields(cast(Any, config_class)):
        place = (*path, entry.name)
        below = {key: value for key, value in values.items() if key[: len(place)] == place}
        if not below:
            continue
        if "catalogue" in entry.metadata:
            given[entry.name] = {key[-1]: value for key, value in below.items() if value is not None}
        elif is_dataclass(hints[entry.name]):
            inner = _fields_given(cast(type, hints[entry.name]), below, place)
            given[entry.name] = replace(cast(Any, entry.default), **inner)
        else:
            given[entry.name] = below[place]
    return given
