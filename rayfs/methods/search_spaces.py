"""What `jobs/tune.py` searches: the space of each method's settings, and how a point of it becomes a method.

No torch and no Ray here. A point is drawn as a pure function of (seed, setting, trial), so that the same command
proposes the same trials again, more trials go on where fewer ended, and a wider space of one setting leaves the others
as they were.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any

from rayfs.errors import InputError
from rayfs.methods import registry
from rayfs.methods.recipe import RecipeName
from rayfs.methods.spaces import DIGITS, Choice, Range, Space
from rayfs.methods.variants import flag_of, parse_settings, parse_variant, resolve, text_of
from rayfs.randomness import RawStream


def chosen_spaces(method: str, tune: Sequence[str], widened: Sequence[str]) -> dict[str, Space]:
    """Return setting -> space.

    Arguments:
        tune: settings to search, as flags spell them; none: those that the method is usually searched by.
        widened: texts such as "lr=0.01:0.3:log", "steps=50:200" or "schedule=constant,cosine", each of which replaces
            the space of one setting.

    Raises:
        InputError: no such setting, one given twice, or no space.
    """
    definition = registry.find(method)
    own = dict(parse_space(method, text) for text in widened)
    if len(own) < len(widened):
        raise InputError(f"--space is '{' '.join(widened)}'; name each setting once")
    fields = [name.replace("-", "_") for name in tune] or [*dict.fromkeys([*definition.tuned, *own])]
    known = {**definition.search_space, **own}
    if not fields:
        raise InputError(f"{definition.name} has no spaces of its own; give --space NAME=LOW:HIGH or NAME=A,B,C")
    for name in fields:
        if name not in known:
            raise InputError(
                f"--tune {flag_of(name)}: {definition.name} has no space of that name; expected some of "
                f"{', '.join(map(flag_of, definition.search_space))}, or give --space {flag_of(name)}=LOW:HIGH"
            )
    if len(set(fields)) < len(fields):
        raise InputError(f"--tune is '{' '.join(tune)}'; name each setting once")
    unused = [name for name in own if name not in fields]
    if unused:
        raise InputError(
            f"--space of {flag_of(unused[0])} changes nothing: --tune leaves it out; add it there or drop it"
        )
    return {name: known[name] for name in fields}


def parse_space(method: str, text: str) -> tuple[str, Space]:
    """Split "lr=0.01:0.3:log", "steps=50:200" or "schedule=constant,cosine" into the setting and its space.

    Raises:
        InputError: no such setting of `method`, or no space.
    """
    flag, sign, given = text.partition("=")
    name = flag.strip().replace("-", "_")
    if not sign or not given:
        raise InputError(f"--space {text}: expected NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C")
    parts = given.split(":")
    if len(parts) == 1:
        return name, Choice(values=tuple(_typed(method, name, value, text) for value in given.split(",")))
    if len(parts) > 3 or (len(parts) == 3 and parts[2] not in ("log", "linear")):
        raise InputError(f"--space {text}: expected LOW:HIGH, perhaps with ':log' or ':linear'")
    low, high = (_typed(method, name, part, text) for part in parts[:2])
    if isinstance(low, str):
        raise InputError(
            f"--space {text}: {flag_of(name)} is a word, not a number; give its values as {flag_of(name)}=A,B"
        )
    usual = registry.find(method).search_space.get(name)
    log = parts[2] == "log" if len(parts) == 3 else isinstance(usual, Range) and usual.log
    return name, Range(low=low, high=high, log=log, integer=isinstance(low, int))


def random_settings(spaces: Mapping[str, Space], seed: int, trial: int) -> dict[str, Any]:
    """Return the settings of trial number `trial`: a pure function of (seed, spaces, trial)."""
    shares = {name: RawStream(f"{seed}|tune|{name}", trial).below(1 << 53) / (1 << 53) for name in spaces}
    return {name: space.at(shares[name]) for name, space in spaces.items()}


def rounded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `settings` with numbers of `DIGITS` significant digits."""
    return {name: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for name, v in settings.items()}


def grid_settings(spaces: Mapping[str, Space], n_points: int) -> list[dict[str, Any]]:
    """Return every combination of `n_points` values of each range and all values of each choice."""
    axes = [space.grid(n_points) for space in spaces.values()]
    return [dict(zip(spaces, values, strict=True)) for values in itertools.product(*axes)]


@dataclass(frozen=True, kw_only=True)
class Variants:
    """How settings become a method with a name: what is searched, on top of what is held fixed."""

    method: str
    benchmark: str
    n_way: int
    n_shot: int
    recipe: RecipeName = "released"
    held: Mapping[str, Any] = field(default_factory=dict)
    """Setting -> value that all trials have."""

    def of(self, settings: Mapping[str, Any]) -> tuple[str, Any]:
        """Return the method's name, as --methods takes it, and its settings.

        A setting that has the value it would have anyway, or that changes nothing beside the others, is left out of the
        name: equal settings have equal names.

        Raises:
            InputError: an impossible value.
        """
        method, resolved = registry.find(self.method), self._resolve(settings)
        own = {name: value for name, value in settings.items() if not method.why_inert(resolved, name)}
        for name in list(own):
            without = {other: value for other, value in own.items() if other != name}
            if self._resolve(without) == self._resolve(own):
                own = without
        return (f"{method.name}:{text_of(own)}" if own else method.name), self._resolve(own)

    def settings_of(self, name: str, fields: Sequence[str]) -> dict[str, Any]:
        """Return the values of `fields` in the trial of that name, defaults included."""
        settings = self._resolve(parse_variant(name)[1])
        return {field: getattr(settings, field, MISSING) for field in fields}

    def _resolve(self, settings: Mapping[str, Any]) -> Any:
        given = {**self.held, **settings}
        return resolve(self.method, self.benchmark, self.n_way, self.n_shot, given, self.recipe)


def held_settings(method: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return setting -> value of texts such as "steps=50" and "base-gradient=head".

    Raises:
        InputError: no such setting of `method`, or a value of another type.
    """
    try:
        return parse_settings(method, texts)
    except InputError as error:
        raise InputError(f"--hold {' '.join(texts)}: {error}") from None


def _typed(method: str, name: str, value: str, given: str) -> Any:
    try:
        return parse_settings(method, [f"{flag_of(name)}={value.strip()}"])[name]
    except InputError as error:
        raise InputError(f"--space {given}: {error}") from None
