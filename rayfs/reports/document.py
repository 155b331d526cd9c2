"""What a page is made of. Every page of this project is a `Report`; `render` makes HTML of it.

Texts are plain and may come from outside: the templates escape them. Only `Markup`, which `figure_style.draw_svg`
gives, goes to the page as it is. Parts without content are left out, so that a builder need not ask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from markupsafe import Markup

from rayfs.reports.result_table import ResultTable


@dataclass(frozen=True, kw_only=True)
class Report:
    """One page, in one file that refers to nothing outside."""

    title: str
    lead: str = ""
    """One sentence below the title."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Name -> value, shown below the lead; empty values are left out."""
    head: Sequence["Block"] = ()
    """Below the facts: commands, settings."""
    sections: Sequence["Section"] = ()
    footer: str = ""
    command: str = ""
    """What builds the page again."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what is below it. Sections in a section have smaller headings."""

    kind: ClassVar[str] = "section"
    heading: str
    prose: str = ""
    """An introduction; shown only if there are blocks."""
    blocks: Sequence["Block"] = ()


@dataclass(frozen=True, kw_only=True)
class Note:
    """A sentence of its own."""

    kind: ClassVar[str] = "note"
    text: str
    tone: Literal["plain", "muted", "warning"] = "plain"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names with their values."""

    kind: ClassVar[str] = "facts"
    items: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Code:
    """Lines of a command or of a traceback."""

    kind: ClassVar[str] = "code"
    text: str
    heading: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A result table, perhaps with a heading and a caption above it."""

    kind: ClassVar[str] = "table"
    table: ResultTable
    colours: Mapping[str, str] = field(default_factory=dict)
    """Name of a row -> its colour in the figures, as `figure_style.css_colour` names it."""
    heading: str = ""
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing, with its heading and caption above it."""

    kind: ClassVar[str] = "figure"
    svg: Markup
    """What `draw_svg` gives; empty for no figure."""
    heading: str = ""
    caption: str = ""
    wide: bool = False
    """True: as wide as the page, and on a narrow one not shrunk but moved sideways."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Blocks side by side where the page is wide enough."""

    kind: ClassVar[str] = "grid"
    blocks: Sequence["Block"]


@dataclass(frozen=True, kw_only=True)
class Folded:
    """Blocks that open with a click."""

    kind: ClassVar[str] = "folded"
    summary: str
    blocks: Sequence["Block"]
    opened: bool = False


@dataclass(frozen=True, kw_only=True)
class Shade:
    """One depth of colour and what it means."""

    colour: str
    opacity: float
    text: str


@dataclass(frozen=True, kw_only=True)
class ColourKey:
    """What depths of colour mean."""

    kind: ClassVar[str] = "colour_key"
    shades: Sequence[Shade]


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

    kind: ClassVar[str] = "strip"
    source: str
    """The picture, as a data URI (`sprites.data_uri`)."""
    smooth: bool
    """Whether it is a photograph; else its pixels are enlarged as squares."""
    pictures: Sequence[Picture]
    caption: str = ""
    large: bool = False
    """With room for names below the images."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The images of one class."""

    kind: ClassVar[str] = "gallery"
    heading: str
    label: str = ""
    """Number of the class in its episode."""
    blocks: Sequence["Strip | Table"]


@dataclass(frozen=True, kw_only=True)
class AnswerKey:
    """What the marks below query images mean."""

    kind: ClassVar[str] = "answer_key"
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
