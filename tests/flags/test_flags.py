"""Fields of a configuration as flags: groups, defaults, spellings, refusals."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from rayfs.errors import InputError
from rayfs.flags.command_line import run_job
from rayfs.flags.field_docs import field_docs
from rayfs.flags.flag import Catalogue, Entry, Shown, flags_of, group, settings_of
from rayfs.flags.help_text import help_page, value_text, value_word
from rayfs.flags.parsing import configured, flag_values, parse


@dataclass(frozen=True, kw_only=True)
class Room:
    name: Annotated[str, Shown(flag="room", value="PLACE")] = "hall"
    """Where it
    stands."""
    size: int | None = None
    """Square metres; default: unknown."""


@dataclass(frozen=True, kw_only=True)
class Kettle:
    heat: float = 100.0
    lid: Literal["on", "off"] = "on"
    whistle: bool = True


@dataclass(frozen=True, kw_only=True)
class Pan:
    heat: float = 200.0
    depth: int | None = None


POTS = Catalogue(
    word="pot",
    entries=lambda: {
        "kettle": Entry(summary="for water", settings=Kettle, aliases=("pot",)),
        "pan": Entry(summary="", settings=Pan),
    },
    describe=lambda name, values: f"{name} in the {values['room']} for {values['out']}",
)


@dataclass(frozen=True, kw_only=True)
class Kitchen:
    dishes: Annotated[tuple[str, ...], Shown(positional=True, value="DISH ...", title="Dishes")] = ()
    """What is cooked."""
    room: Room = group(Room(size=9), "Rooms", size="Metres, squared.")
    doors: tuple[int, ...] = (1, 2)
    """Doors."""
    pots: Mapping[str, Any] = settings_of(POTS)
    """Given settings."""
    gas: Annotated[bool, Shown(title="Fuel")] = True
    """With gas."""
    smoke: bool = False
    """With smoke."""
    out: Path
    """Where it goes."""


@pytest.mark.parametrize(
    ("name", "path", "default", "doc", "title"),
    [
        ("dishes", ("dishes",), (), "What is cooked.", "Dishes"),
        ("room", ("room", "name"), "hall", "Where it stands.", "Rooms"),
        ("size", ("room", "size"), 9, "Metres, squared.", "Rooms"),
        ("doors", ("doors",), (1, 2), "Doors.", "Rooms"),
        ("heat", ("pots", "heat"), None, "", "Rooms"),
        ("lid", ("pots", "lid"), None, "", "Rooms"),
        ("whistle", ("pots", "whistle"), None, "", "Rooms"),
        ("depth", ("pots", "depth"), None, "", "Rooms"),
        ("gas", ("gas",), True, "With gas.", "Fuel"),
        ("out", ("out",), MISSING, "Where it goes.", "Fuel"),
    ],
)
def test_a_field_of_a_group_or_of_a_catalogue_is_a_flag(name, path, default, doc, title) -> None:
    (flag,) = (flag for flag in flags_of(Kitchen) if flag.name == name)
    assert (flag.path, flag.default, flag.doc, flag.title) == (path, default, doc, title)
    assert flag.is_setting == (path[0] == "pots")


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("--out a", {}),
        ("soup --out a", {"dishes": ("soup",)}),
        ("soup pie --out a --no-gas", {"dishes": ("soup", "pie"), "gas": False}),
        ("--room cellar --size 3 --out a", {"room": "cellar", "size": 3}),
        ("--room cellar --out a", {"room": "cellar"}),
        ("--out a --heat 5 --lid off", {"heat": 5.0, "lid": "off"}),
        ("--out a --whistle", {"whistle": True}),
        ("--out a --no-whistle", {"whistle": False}),
        ("--out a --depth=2 --smoke --doors 4", {"depth": 2, "smoke": True, "doors": (4,)}),
    ],
)
def test_words_become_a_configuration_and_values_become_it_too(words: str, values: dict[str, Any]) -> None:
    config = parse(Kitchen, words.split())
    assert config == configured(Kitchen, out=Path("a"), **values)
    defaults = {
        "dishes": (), "room": "hall", "size": 9, "doors": (1, 2), "heat": None, "lid": None, "whistle": None,
        "depth": None, "gas": True, "smoke": False, "out": Path("a"),
    }  # fmt: skip
    assert flag_values(config) == defaults | values
    settings = ("heat", "lid", "whistle", "depth")
    assert config.pots == {name: value for name, value in values.items() if name in settings}


@pytest.mark.parametrize("words", ["--help-pot kettle --room attic", "--help_pot=pot --room attic --size 3"])
def test_help_of_an_entry_is_found_by_its_name_and_by_others(capsys, words: str) -> None:
    assert run_job(lambda config: pytest.fail("the job ran"), Kitchen, None, words.split()) == 0
    assert capsys.readouterr().out == "kettle in the attic for None\n"


def test_a_flag_that_does_not_exist_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="Kitchen has no flag called name"):
        configured(Kitchen, out=Path("a"), name="cellar")


def test_two_flags_of_one_name_are_a_mistake_of_the_program() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Twice:
        room: Room = group(Room(), "Rooms")
        size: int = 3

    with pytest.raises(ValueError, match="Twice has two flags called size"):
        flags_of(Twice)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--out a --smok", "there is no flag --smok; did you mean --smoke or --no-smoke"),
        ("--out a --zzzzzz", "there is no flag --zzzzzz; --help lists the flags"),
        ("--out a -z", "there is no flag -z"),
        ("--out a --size big", "--size is 'big'; expected a whole number"),
        ("--out a --size 1.5", "--size is '1.5'; expected a whole number"),
        ("--out a --doors 1 x", "--doors is 'x'; expected a whole number"),
        ("--out a --heat=hot", "--heat is 'hot'; expected a number"),
        ("--out a --lid half", "--lid is 'half'; expected one of on, off"),
        ("--out a --size", "--size has no value; expected a whole number"),
        ("--out a --lid", "--lid has no value; expected one of on, off"),
        ("--smoke", "--out is missing: Where it goes."),
        ("", "--out is missing: Where it goes."),
    ],
)
def test_wrong_words_are_refused_in_one_sentence(words: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(Kitchen, words.split())
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("soup --size 3", "'soup' stands before any flag; drop it, or name its flag"),
        ("--size 3 4", "--size takes one value, but 2 were given: '3 4'"),
        ("--room a --size=3 4", "--size takes one value, but 2 were given: '3 4'"),
    ],
)
def test_words_that_belong_to_no_flag_are_refused(words: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(Room, words.split())
    assert str(refused.value) == message


def test_of_two_required_flags_the_one_that_is_missing_is_named() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Journey:
        start: str
        """Where it begins."""
        end: str
        """Where it ends."""

    with pytest.raises(InputError) as refused:
        parse(Journey, ["--start", "here"])
    assert str(refused.value) == "--end is missing: Where it ends."


def test_help_shows_headings_defaults_and_the_catalogue() -> None:
    assert help_page(Kitchen, "Cook.\n\n    python cook.py --out a\n\nThen eat\nit.\n", "cook.py") == (
        "usage: python cook.py DISH ... [FLAGS]\n\n"
        "Cook.\n\n"
        "    python cook.py --out a\n\n"
        "Then eat it.\n\n"
        "Dishes:\n"
        "  DISH ...                  What is cooked.\n\n"
        "Rooms:\n"
        "  --room PLACE              Where it stands. Default: hall.\n"
        "  --size N                  Metres, squared. Default: 9.\n"
        "  --doors N ...             Doors. Default: 1 2.\n"
        "  The pots; each of their settings is a flag, too (--help-pot kettle):\n"
        "    kettle                  for water\n"
        "    pan\n\n"
        "Fuel:\n"
        "  --gas                     With gas. Default: on; --no-gas turns it off.\n"
        "  --smoke                   With smoke.\n"
        "  --out PATH                Where it goes. Required.\n\n"
        "all settings of one pot: --help-pot NAME"
    )


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (int, "N"), (float, "X"), (bool, ""), (str, "NAME"), (Path, "PATH"), (tuple[float, ...], "X ..."),
        (Literal["a", "b"], "a|b"), (tuple[Literal["a", "b"], ...], "a|b ..."),
    ],
)  # fmt: skip
def test_a_word_stands_for_a_value(kind: Any, word: str) -> None:
    assert value_word(kind) == word


@pytest.mark.parametrize(
    ("value", "text"), [(5e-4, "0.0005"), (1.0, "1"), (448_695, "448695"), ((1, 5), "1 5"), ("lr", "lr")]
)
def test_a_default_is_printed_as_it_would_be_given(value: object, text: str) -> None:
    assert value_text(value) == text


def test_docs_of_inherited_fields_and_of_classes_without_source() -> None:
    @dataclass(frozen=True)
    class Lower(Room):
        size: int | None = 2
        """Changed."""

    assert field_docs(Lower) == {"name": "Where it stands.", "size": "Changed."}
    namespace: dict[str, Any] = {}
    exec("from dataclasses import dataclass\n@dataclass\nclass Made:\n    x: int = 1\n    'Doc.'", namespace)
    assert field_docs(namespace["Made"]) == {}
