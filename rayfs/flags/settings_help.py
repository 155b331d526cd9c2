"""What `--help-method NAME` prints: the settings of one thing, with their types, defaults and sources."""

from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from rayfs.flags.field_docs import field_docs
from rayfs.flags.flag import without_none
from rayfs.flags.help_text import FLAG_WIDTH, Line, columns, page_width, value_text, value_word
from rayfs.flags.refusals import choices
from rayfs.value_checks import flag_of

DEFAULT_WIDTH = 20
"""Columns of the defaults."""


def settings_table(settings: type, defaults: Mapping[str, Sequence[Any]], recipes: Sequence[str]) -> str:
    """Return a line for each setting: its flag, its defaults, and what it is.

    Arguments:
        settings: dataclass of the settings.
        defaults: setting -> its default in each of `recipes`.
        recipes: names of the recipes, which head the column of the defaults.
    """
    hints, docs = get_type_hints(settings), field_docs(settings)
    lines = [
        Line(name=_aligned("setting", f"{' / '.join(recipes)}"), text="what it is"),
        *(
            Line(
                name=_aligned(_spelled(name, without_none(hints[name])), _defaults(values)),
                text=docs.get(name, "").replace("`", "") + _choices_said(without_none(hints[name])),
            )
            for name, values in defaults.items()
        ),
    ]
    return "\n".join(columns(lines, page_width(), FLAG_WIDTH + DEFAULT_WIDTH))


def _aligned(left: str, right: str) -> str:
    return f"{left:<{FLAG_WIDTH}}  {right}"


def _spelled(name: str, kind: Any) -> str:
    return f"{flag_of(name)} {'WORD' if choices(kind) else value_word(kind)}"


def _choices_said(kind: Any) -> str:
    return f" One of {', '.join(choices(kind))}." if choices(kind) else ""


def _defaults(values: Sequence[Any]) -> str:
    """Return each default, or the one that all recipes have; None reads 'not set'."""
    texts = ["not set" if value is None else value_text(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)
