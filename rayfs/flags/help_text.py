"""What `--help` prints: flags under headings, in two columns, with their defaults."""

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from rayfs.flags.flag import Catalogue, Flag, catalogue_of, flags_of, without_none
from rayfs.flags.refusals import choices

WIDTH = 100
"""Columns, fewer on a narrower terminal."""

FLAG_WIDTH = 24
"""Columns of the flags; a longer one stands on a line of its own."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing and what is said about it."""

    name: str
    text: str


def page_width() -> int:
    """Return the columns that help has: those of a terminal, at most `WIDTH`; `WIDTH` in a file or a pipe."""
    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns) if sys.stdout.isatty() else WIDTH


def help_page(config_class: type, description: str | None, job: str) -> str:
    """Return the help of a job.

    Arguments:
        description: the docstring of its script.
        job: what it is called by, such as jobs/tune.py.
    """
    flags, catalogue, width = flags_of(config_class), catalogue_of(config_class), page_width()
    places = " ".join(shown_value(flag) for flag in flags if flag.shown.positional)
    parts = [f"usage: python {job} {places + ' ' if places else ''}[FLAGS]", *_described(description or "", width)]
    for title in dict.fromkeys(flag.title for flag in flags):
        own = [flag for flag in flags if flag.title == title]
        lines = [Line(name=_spelled(flag), text=_said(flag)) for flag in own if not flag.is_setting]
        section = [f"{title}:", *columns(lines, width)]
        if catalogue and any(flag.is_setting for flag in own):
            section += _listed(catalogue, width)
        parts.append("\n".join(section))
    if catalogue:
        parts.append(f"all settings of one {catalogue.word}: --help-{catalogue.word} NAME")
    return "\n\n".join(parts)


def columns(lines: Sequence[Line], width: int, name_width: int = FLAG_WIDTH) -> list[str]:
    """Return `lines` in two columns, each text wrapped in its own."""
    printed = []
    for line in lines:
        texts = textwrap.wrap(line.text, width - name_width - 4, break_long_words=False, break_on_hyphens=False)
        if len(line.name) > name_width or not texts:
            printed.append(f"  {line.name}")
            printed += [" " * (name_width + 4) + text for text in texts]
        else:
            printed.append(f"  {line.name:<{name_width}}  {texts[0]}")
            printed += [" " * (name_width + 4) + text for text in texts[1:]]
    return printed


def value_word(kind: Any) -> str:
    """Return what stands for a value of this type, such as N; nothing for bool, which takes none."""
    if choices(kind):
        return "|".join(choices(kind))
    if get_origin(kind) is tuple:
        return f"{value_word(without_none(get_args(kind)[0]))} ..."
    return {bool: "", int: "N", float: "X", Path: "PATH"}.get(kind, "NAME")


def shown_value(flag: Flag) -> str:
    """Return what stands for the flag's value."""
    return flag.shown.value or value_word(flag.type)


def value_text(value: object) -> str:
    """Return a default as help prints it."""
    if isinstance(value, tuple):
        return " ".join(map(value_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _spelled(flag: Flag) -> str:
    if flag.shown.positional:
        return shown_value(flag)
    return f"{flag.spelled} {shown_value(flag)}".strip()


def _said(flag: Flag) -> str:
    """Return what the flag is, with its default where its description does not have it in words."""
    if flag.default is MISSING:
        return f"{flag.doc} Required."
    if flag.default is True:
        return f"{flag.doc} Default: on; {flag.spelled.replace('--', '--no-', 1)} turns it off."
    if flag.default is False or flag.default is None or flag.default == ():
        return flag.doc
    return f"{flag.doc} Default: {value_text(flag.default)}."


def _listed(catalogue: Catalogue, width: int) -> list[str]:
    entries, ask = catalogue.entries(), f"--help-{catalogue.word}"
    if catalogue.is_brief:
        text = f"{', '.join(entries)}. Each of their settings is a flag, too ({ask} {next(iter(entries))})."
        return columns([Line(name=f"the {catalogue.word}s", text=text)], width)
    lines = [Line(name=f"  {name}", text=entry.summary) for name, entry in entries.items()]
    return [
        f"  The {catalogue.word}s; each of their settings is a flag, too ({ask} {next(iter(entries))}):",
        *columns(lines, width),
    ]


def _described(description: str, width: int) -> list[str]:
    """Return the paragraphs of a script's docstring: prose wrapped anew, commands as they are."""
    paragraphs = re.split(r"\n\s*\n", description.strip("\n").rstrip())
    return [
        paragraph if paragraph.startswith("    ") else textwrap.fill(" ".join(paragraph.split()), width)
        for paragraph in paragraphs if paragraph
    ]  # fmt: skip
