"""One clear sentence for a command line, or a value, that is refused."""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING
from typing import Any, Literal, get_args, get_origin

from rayfs.errors import InputError
from rayfs.flags.flag import Flag

N_OFFERED = 3
"""Most flags that an unknown one is taken for."""


PARSER_FLAGS = "--tyro-"
"""How flags of the parser itself begin, which write completions for a shell."""


def why_refused(flags: Sequence[Flag], argv: Sequence[str], parser_text: str) -> str:
    """Return why the parser refused `argv`.

    Arguments:
        parser_text: what the parser said itself, used where none of the usual reasons is found.
    """
    return next(_reasons(flags, argv), None) or _unframed(parser_text)


def refuse_unknown(flags: Sequence[Flag], argv: Sequence[str]) -> None:
    """Refuse a word of `argv` that looks like a flag and is none, at once: the parser takes its time to say so.

    Raises:
        InputError: there is one.
    """
    known = _known(flags)
    for part in argv:
        word = part.partition("=")[0]
        if re.match("--[A-Za-z]", word) and word.replace("_", "-") not in known and not word.startswith(PARSER_FLAGS):
            raise InputError(_unknown(word, known))


def choices(kind: Any) -> tuple[str, ...]:
    """Return the words that a flag takes; none where it takes others, too."""
    return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()


def _reasons(flags: Sequence[Flag], argv: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong, in the order of the words."""
    known = _known(flags)
    takes_places = any(flag.shown.positional for flag in flags)
    seen = set()
    for word, values in _split(argv):
        if not word:
            if values and not takes_places:
                yield f"'{values[0]}' stands before any flag; drop it, or name its flag"
            continue
        name = word.replace("_", "-")
        if name not in known:
            yield _unknown(word, known)
            continue
        flag = known[name]
        seen.add(flag.name)
        yield from _wrong_values(word, flag, values, takes_places)
    for flag in flags:
        if flag.default is MISSING and flag.name not in seen:
            called = flag.shown.value or flag.name.upper() if flag.shown.positional else flag.spelled
            yield f"{called} is missing: {flag.doc}"


def _known(flags: Sequence[Flag]) -> dict[str, Flag]:
    """Return spelling -> flag."""
    known = {flag.spelled: flag for flag in flags if not flag.shown.positional}
    return known | {flag.spelled.replace("--", "--no-", 1): flag for flag in flags if flag.type is bool}


def _split(argv: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each flag with the words behind it, first those before any flag."""
    word, values = "", list[str]()
    for part in argv:
        if re.match(r"--?[A-Za-z]", part):
            yield word, values
            word, sign, value = part.partition("=")
            values = [value] if sign else []
        else:
            values.append(part)
    yield word, values


def _unknown(word: str, known: dict[str, Flag]) -> str:
    near = difflib.get_close_matches(word.replace("_", "-"), known, n=N_OFFERED)
    meant = f"; did you mean {' or '.join(near)}?" if near else "; --help lists the flags"
    return f"there is no flag {word}{meant}"


def _wrong_values(word: str, flag: Flag, values: list[str], takes_places: bool) -> Iterator[str]:
    kind = flag.type
    if kind is bool:
        if values and not takes_places:
            yield f"{word} takes no value, but '{values[0]}' was given; drop it ({_on_and_off(flag)})"
        return
    several = get_origin(kind) is tuple
    if several:
        kind = get_args(kind)[0]
    elif not values:
        yield f"{word} has no value; expected {_expected(kind)}"
        return
    for value in values if several else values[:1]:
        if not _fits(kind, value):
            yield f"{word} is '{value}'; expected {_expected(kind)}"
    if not several and len(values) > 1 and not takes_places:
        yield f"{word} takes one value, but {len(values)} were given: '{' '.join(values)}'"


def _on_and_off(flag: Flag) -> str:
    return f"{flag.spelled} turns it on, {flag.spelled.replace('--', '--no-', 1)} off"


def _fits(kind: Any, value: str) -> bool:
    if choices(kind):
        return value in choices(kind)
    if kind not in (int, float):
        return True
    try:
        kind(value)
    except ValueError:
        return False
    return True


def _expected(kind: Any) -> str:
    if choices(kind):
        return f"one of {', '.join(choices(kind))}"
    return {int: "a whole number", float: "a number"}.get(kind, "a value")


def _unframed(parser_text: str) -> str:
    """Return the parser's words without the box that it draws around them, up to its first line."""
    lines = [line.strip("│╭╮╰╯─| ") for line in parser_text.splitlines() if not line.startswith("╭")]
    said = " ".join(line for line in lines if line)
    return said or "the command line cannot be read; --help lists the flags"
