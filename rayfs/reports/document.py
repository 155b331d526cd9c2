"""What a page is made of. Every page of this project is a `Report`; `render` makes HTML of it.

Texts are plain and may come from outside: the templates escape them. Only `Markup`, which `figure_style.draw_svg`
gives, goes to the page as it is. Blocks without content are left out, so that a builder need not ask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup

from rayfs.reports.result_table import ResultTable


@dataclass(frozen=True, kw_only=True)
class Report:
    """One page, in one file that refers to nothing outside."""

    title: str
    lead: str
    """One sentence below the title."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Name -> value, shown below the lead; empty values are left out."""
    head: Sequence["Block"] = ()
    """Below the facts: commands, settings."""
    sections: Sequence["Section"] = ()
    footer: str
    """What the page was made of."""
    command: str
    """What builds it again."""


@dataclass(frozen=True)
class Section:
    """A heading and what is below it. Sections in a section have smaller headings."""

    heading: str
    blocks: Sequence["Block"]
    prose: str = ""
    """An introduction; shown only if there are blocks."""


@dataclass(frozen=True)
class Note:
    """A sentence of its own."""

    text: str
    tone: Literal["plain", "muted", "warning"] = "plain"


@dataclass(frozen=True)
class Facts:
    """Names with their values."""

    items: Mapping[str, str]


@dataclass(frozen=True)
class Code:
    """Lines of a command or of a traceback."""

    text: str
    heading: str = ""


@dataclass(frozen=True)
class Table:
    """A result table, perhaps with a heading and a caption above it."""

    table: ResultTable
    heading: str = ""
    caption: str = ""
    colours: Mapping[str, str] = field(default_factory=dict)
    """Name of a row -> its colour in the figures, as `figure_style.css_colour` names it."""


@dataclass(frozen=True)
class Figure:
    """A drawing (empty: none), with its heading and caption above it."""

    svg: Markup
    heading: str = ""
    caption: str = ""
    wide: bool = False
    """True: as wide as the page, and on a narrow one not shrunk but moved sideways."""


@dataclass(frozen=True)
class Grid:
    """Blocks side by side where the page is wide enough."""

    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Folded:
    """Blocks that open with a click."""

    summary: str
    blocks: Sequence["Block"]
    opened: bool = False


@dataclass(frozen=True)
class ColourKey:
    """What depths of colour mean: (colour, opacity, text) of each."""

    shades: Sequence[tuple[str, float, str]]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image of a strip, and what stands below it."""

    description: str
    """What a screen reader says of it."""
    state: Literal["", "right", "wrong"] = ""
    """Of an answer; a wrong one is framed."""
    answers: Sequence[str] = ()
    """Of each method: empty if right, else the label that it gave."""
    value: str = ""
    """A figure, such as a probability."""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Images beside one another, all from one picture."""

    source: str
    """The picture, as a data URI (`sprites.data_uri`)."""
    smooth: bool
    """Whether it is a photograph; else its pixels are enlarged as squares."""
    pictures: Sequence[Picture]
    caption: str = ""
    large: bool = False
    """With room for names below the images."""


@dataclass(frozen=True)
class Gallery:
    """The images of one class."""

    heading: str
    blocks: Sequence[Strip | Table]
    label: str = ""
    """Number of the class in its episode."""


@dataclass(frozen=True)
class AnswerKey:
    """What the marks below query images mean."""

    methods: Sequence[str]
    """Whose answers stand below the images, in this order; a frame marks the mistakes of the first."""


Block = Section | Note | Facts | Code | Table | Figure | Grid | Folded | ColourKey | Strip | Gallery | AnswerKey


def is_empty(block: Block) -> bool:
    """Return whether a block has nothing to show, so that it is left out."""
    match block:
        case Section() | Grid() | Folded():
            return all(map(is_empty, block.blocks))
        case Note() | Code():
            return not block.text
        case Facts():
            return not any(block.items.values())
        case Table():
            return not block.table.lines
        case Figure():
            return not block.svg
        case _:
            return False
