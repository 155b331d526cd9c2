"""All that the rest of rayfs knows of a method, in one place. No torch here, so that a command line opens fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, cast

from rayfs.deferred import imported
from rayfs.methods.needs import Needs
from rayfs.methods.recipe import Situation
from rayfs.methods.spaces import Space

if TYPE_CHECKING:
    from rayfs.methods.method import Method


class MethodSettings(Protocol):
    """A frozen dataclass of plain values, keyword-only; its stable hash goes into every result row."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


S = TypeVar("S", bound=MethodSettings)


def no_values(situation: Situation) -> Mapping[str, Any]:
    """Return the recipe of a method whose settings are the defaults of their fields everywhere."""
    return {}


def no_needs(settings: Any) -> Needs:
    """Return the needs of a method of frozen features: none."""
    return Needs()


@dataclass(frozen=True, kw_only=True)
class Inert:
    """Settings that change nothing beside certain values of others."""

    settings: frozenset[str]
    where: Callable[[Any], bool]
    """Tells whether they change nothing, from all settings of the method."""
    because: str
    """Ends the message "... changes nothing where": "base-gradient is none"."""


@dataclass(frozen=True, kw_only=True)
class MethodDefinition(Generic[S]):
    """A method: its name, its settings and their values, what it needs, and where it is solved.

    `registry.METHODS` lists all of them.
    """

    name: str
    """What --methods takes and every table shows: lower case, words joined by hyphens."""
    aliases: tuple[str, ...] = ()
    """Other names that are read as `name`: shorter ones, and those of rows that were written before."""
    summary: str
    """One line for --help."""
    settings: type[S]
    """A frozen keyword-only dataclass of plain values, a docstring under each field. No other method has the same."""
    solver: str
    """"module:Class" of what solves episodes, made from the settings; imported in workers alone."""
    recipe: Callable[[Situation], Mapping[str, Any]] = no_values
    """Values of settings that nobody gives and that are not the default of their field."""
    search_space: Mapping[str, Space] = field(default_factory=dict)
    """Setting -> what a search draws its value from."""
    tuned: tuple[str, ...] = ()
    """Settings that are searched unless --tune says otherwise."""
    inert: tuple[Inert, ...] = ()
    """Which settings change nothing, and where; the first reason is given."""
    needs: Callable[[S], Needs] = no_needs
    """What it needs with certain settings."""

    @property
    def setting_names(self) -> frozenset[str]:
        """The fields of its settings."""
        return frozenset(field.name for field in fields(self.settings))

    def resolve(self, situation: Situation) -> S:
        """Return the settings in a situation: what is given goes before the recipe, the recipe before defaults.

        Raises:
            InputError: an impossible value.
        """
        return self.settings(**{**self.recipe(situation), **situation.given})

    def create(self, settings: S) -> Method:
        """Import the solver and return one with these settings."""
        return cast("Method", imported(self.solver)(settings))

    def why_inert(self, settings: S, name: str) -> str | None:
        """Return which setting makes `name` meaningless; None where it is used."""
        return next((rule.because for rule in self.inert if name in rule.settings and rule.where(settings)), None)
