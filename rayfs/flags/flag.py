"""What a job's flags are: the fields of its configuration and of the groups in it, as one flat list.

A configuration is a frozen dataclass. A field is a flag; a field that is itself such a dataclass is a group, whose
fields are flags as well, without a prefix. Parsing, help and error messages all work on the list that `flags_of` makes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from rayfs.flags.field_docs import field_docs

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How a flag is written where its field does not say it, as in `Annotated[str, Shown(flag="backbone")]`."""

    flag: str | None = None
    """Name of the flag; None: that of the field."""
    value: str | None = None
    """What stands for the value in help, such as DIR; None: a word for the type."""
    positional: bool = False
    """Given by its place, without a flag."""
    title: str | None = None
    """Heading that begins here in help, and holds up to the next; None: the one before."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that has settings of its own, such as a method."""

    summary: str
    """One line for help."""
    settings: type
    """Dataclass of its settings."""
    aliases: tuple[str, ...] = ()
    """Other names that help finds it by."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Things that are chosen by name and have settings of their own; each setting is a flag, too."""

    word: str
    """What one of them is called, as in --help-method."""
    entries: Callable[[], Mapping[str, Entry]]
    """Name -> entry, in the order of help."""
    is_brief: bool = False
    """The job's help has the names alone, without the summaries."""
    describe: Callable[[str, Mapping[str, Any]], str]
    """Return the help of one entry; arguments: its name, and flag -> value of the rest of the command line."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One flag."""

    name: str
    """As Python spells it: n_way is --n-way."""
    path: tuple[str, ...]
    """Attributes that lead to its value, from the configuration on."""
    hint: Any
    """Type of the value."""
    default: Any
    """`dataclasses.MISSING` where the flag is required."""
    doc: str
    title: str
    """Heading that help shows it under."""
    shown: Shown = Shown()
    is_setting: bool = False
    """It is a setting of entries of a catalogue, which help lists elsewhere."""

    @property
    def spelled(self) -> str:
        """As the command line spells it."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def type(self) -> Any:
        """The type of a value that is given: the hint without its None."""
        return without_none(self.hint)


def group(default: T, title: str, **docs: str) -> T:
    """Return the field of a group of flags.

    Arguments:
        default: the group with the job's defaults.
        title: heading in help, also of the plain fields behind this one, up to the next title.
        docs: flag -> description, where the job's differs from the group's.
    """
    return field(default=default, metadata={"title": title, "docs": docs})


def settings_of(catalogue: Catalogue) -> Mapping[str, Any]:
    """Return the field that holds setting -> value of the settings that were given as flags."""
    return cast("Mapping[str, Any]", field(default_factory=dict, metadata={"catalogue": catalogue}))


def flags_of(config_class: type) -> tuple[Flag, ...]:
    """Return all flags, those of groups and the settings of catalogues included.

    Raises:
        ValueError: two flags have the same name.
    """
    flags = tuple(_walk(config_class, None, (), "Options", {}))
    names = [flag.name for flag in flags]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{config_class.__name__} has two flags called {', '.join(twice)}; rename one")
    return flags


def catalogue_of(config_class: type) -> Catalogue | None:
    """Return the catalogue whose settings are flags of the job; None where there is none."""
    catalogues = (entry.metadata.get("catalogue") for entry in fields(cast(Any, config_class)))
    return next((catalogue for catalogue in catalogues if catalogue is not None), None)


def without_none(hint: Any) -> Any:
    """Return `hint` without None and without annotations."""
    if get_origin(hint) is Annotated:
        return without_none(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return reduce(or_, map(without_none, kinds))
    return hint


def _walk(
    config_class: type, group_default: Any, path: tuple[str, ...], title: str, docs: Mapping[str, str]
) -> Iterator[Flag]:
    hints, own_docs = get_type_hints(config_class, include_extras=True), field_docs(config_class)
    for entry in fields(cast(Any, config_class)):
        hint = hints[entry.name]
        shown = _shown(hint)
        title = entry.metadata.get("title") or shown.title or title
        default = _default(entry) if group_default is None else getattr(group_default, entry.name)
        if "catalogue" in entry.metadata:
            yield from _settings(entry.metadata["catalogue"], (*path, entry.name), title)
        elif is_dataclass(hint):
            yield from _walk(cast(type, hint), default, (*path, entry.name), title, entry.metadata.get("docs", {}))
        else:
            name = shown.flag or entry.name
            yield Flag(
                name=name, path=(*path, entry.name), hint=hint, default=default, shown=shown, title=title,
                doc=docs.get(name, own_docs.get(entry.name, "")),
            )  # fmt: skip


def _settings(catalogue: Catalogue, path: tuple[str, ...], title: str) -> Iterator[Flag]:
    """Yield every setting once; one that several entries have takes what any of them takes."""
    hints: dict[str, list[Any]] = {}
    for entry in catalogue.entries().values():
        for name, hint in get_type_hints(entry.settings).items():
            hints.setdefault(name, []).append(hint)
    for name, kinds in hints.items():
        yield Flag(
            name=name, path=(*path, name), hint=reduce(or_, [*kinds, None]), default=None, doc="", title=title,
            is_setting=True,
        )  # fmt: skip


def _default(entry: Any) -> Any:
    return entry.default_factory() if entry.default_factory is not MISSING else entry.default


def _shown(hint: Any) -> Shown:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, Shown)), Shown())
