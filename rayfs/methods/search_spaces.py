"""What `jobs/tune.py` searches: the space of each method's settings, and how a point of it becomes a method.

No torch and no Ray here. A point is drawn as a pure function of (seed, setting, trial), so that the same command
proposes the same trials again, more trials go on where fewer ended, and a wider space of one setting leaves the others
as they were.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any

from rayfs.errors import InputError
from rayfs.methods.configs import MethodConfig
from rayfs.methods.recipes import RecipeName, parse_variant, resolve, why_inert
from rayfs.randomness import RawStream

DIGITS = 3
"""Significant digits of a drawn number: what is printed, pasted and hashed is exactly what was run."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    """Uniform in the logarithm."""
    integer: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"a space from {self.low:g} to {self.high:g} is none; give LOW:HIGH with LOW below HIGH")
        if self.log and self.low <= 0:
            raise InputError(f"a logarithmic space cannot start at {self.low:g}; give a LOW above 0, or drop ':log'")

    def at(self, share: float) -> float | int:
        """Return the value `share` of the way, 0 to 1, from `low` to `high`."""
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        value = min(max(value, self.low), self.high)
        return round(value) if self.integer else float(f"{value:.{DIGITS}g}")

    def grid(self, n: int) -> list[Any]:
        """Return `n` values at equal distances, each once."""
        return list(dict.fromkeys(self.at(i / (n - 1) if n > 1 else 0.5) for i in range(n)))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Some values, each as probable as the others."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(set(self.values)) < max(2, len(self.values)):
            raise InputError(
                f"a choice of {', '.join(map(str, self.values))} is none; give at least two values, each once"
            )

    def at(self, share: float) -> Any:
        """Return the value `share` of the way, 0 to 1, through the list."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def grid(self, n: int) -> list[Any]:
        """Return all values, however many are asked for."""
        return list(self.values)


Space = Range | Choice

_FINETUNING: dict[str, Space] = {
    "lr": Range(low=0.002, high=0.3, log=True),
    "head_lr": Range(low=0.01, high=1.0, log=True),
    "steps": Range(low=25, high=400, log=True, integer=True),
    "lambda_ce": Range(low=0.1, high=10, log=True),
    "support_views": Choice(values=(1, 2, 5, 10, 25)),
    "weight_decay": Range(low=1e-5, high=1e-2, log=True),
    "momentum": Range(low=0.5, high=0.95),
    "c": Range(low=0.01, high=100, log=True),
    "schedule": Choice(values=("constant", "linear", "cosine")),
    "head_init": Choice(values=("random", "logistic-regression")),
}
_WITH_BASE: dict[str, Space] = {
    **_FINETUNING,
    "base_fraction": Range(low=0.05, high=1.0, log=True),
    "base_subset": Choice(values=("all", "related")),
    "related_classes": Range(low=2, high=30, integer=True),
    "batch_norm": Choice(values=("joint", "split")),
}

SPACES: dict[str, dict[str, Space]] = {
    "lr": {"c": _FINETUNING["c"], "support_views": _FINETUNING["support_views"]},
    "nearest-prototype": {"support_views": _FINETUNING["support_views"]},
    "support-only": _FINETUNING,
    "hard-label": {"lambda_base": Range(low=0.05, high=20, log=True), **_WITH_BASE},
    "label-halluc": {
        "lambda_kl": Range(low=0.05, high=20, log=True),
        "temperature": Range(low=0.5, high=16, log=True),
        **_WITH_BASE,
    },
    "feature-distill": {"lambda_base": Range(low=0.05, high=20, log=True), **_WITH_BASE},
    "assoalign": {
        **_FINETUNING,
        "related_classes": Range(low=2, high=30, integer=True),
        "arc_scale": Range(low=2, high=60, log=True),
        "arc_margin": Range(low=1e-4, high=0.5, log=True),
    },
}
"""Method -> setting -> space. Ours: each reaches well past the published value on both sides."""

TUNED: dict[str, tuple[str, ...]] = {
    "lr": ("c", "support_views"),
    "nearest-prototype": ("support_views",),
    "support-only": ("lr", "head_lr", "steps"),
    "hard-label": ("lambda_base", "lr", "head_lr", "steps"),
    "label-halluc": ("lambda_kl", "temperature", "steps", "lr", "head_lr"),
    "feature-distill": ("lambda_base", "lr", "head_lr", "steps"),
    "assoalign": ("lr", "head_lr", "steps", "related_classes"),
}
"""What is searched unless --tune says otherwise."""


def chosen_spaces(method: str, tune: Sequence[str], widened: Sequence[str]) -> dict[str, Space]:
    """Return setting -> space.

    Arguments:
        tune: settings to search, as flags spell them; none: `TUNED`.
        widened: texts such as "lr=0.01:0.3:log", "steps=50:200" or "schedule=constant,cosine", each of which replaces
            the space of one setting.

    Raises:
        InputError: no such setting, one given twice, or no space.
    """
    own = dict(parse_space(method, text) for text in widened)
    if len(own) < len(widened):
        raise InputError(f"--space is '{' '.join(widened)}'; name each setting once")
    fields = [name.replace("-", "_") for name in tune] or [*dict.fromkeys([*TUNED[method], *own])]
    known = {**SPACES[method], **own}
    for name in fields:
        if name not in known:
            raise InputError(
                f"--tune {_flag(name)}: {method} has no space of that name; expected some of "
                f"{', '.join(map(_flag, SPACES[method]))}, or give --space {_flag(name)}=LOW:HIGH"
            )
    if len(set(fields)) < len(fields):
        raise InputError(f"--tune is '{' '.join(tune)}'; name each setting once")
    unused = [name for name in own if name not in fields]
    if unused:
        raise InputError(
            f"--space of {_flag(unused[0])} changes nothing: --tune leaves it out; add it there or drop it"
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
        return name, Choice(values=tuple(_typed(method, name, value.strip()) for value in given.split(",")))
    if len(parts) > 3 or (len(parts) == 3 and parts[2] not in ("log", "linear")):
        raise InputError(f"--space {text}: expected LOW:HIGH, perhaps with ':log' or ':linear'")
    low, high = (_typed(method, name, part.strip()) for part in parts[:2])
    if isinstance(low, str):
        raise InputError(f"--space {text}: {_flag(name)} is a word, not a number; give its values as {_flag(name)}=A,B")
    usual = SPACES[method].get(name)
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

    def of(self, settings: Mapping[str, Any]) -> tuple[str, MethodConfig]:
        """Return the method's name, as --methods takes it, and its configuration.

        A setting that has the value it would have anyway, or that changes nothing beside the others, is left out of the
        name: equal configurations have equal names.

        Raises:
            InputError: an impossible value.
        """
        config = self._resolve(settings)
        own = {name: value for name, value in settings.items() if not why_inert(self.method, config, name)}
        for name in list(own):
            without = {other: value for other, value in own.items() if other != name}
            if self._resolve(without) == self._resolve(own):
                own = without
        text = ",".join(f"{_flag(name)}={_text(own[name])}" for name in sorted(own))
        return (f"{self.method}:{text}" if text else self.method), self._resolve(own)

    def settings_of(self, name: str, fields: Sequence[str]) -> dict[str, Any]:
        """Return the values of `fields` in the trial of that name, defaults included."""
        config = self._resolve(parse_variant(name)[1])
        return {field: getattr(config, field, MISSING) for field in fields}

    def _resolve(self, settings: Mapping[str, Any]) -> MethodConfig:
        given = {**self.held, **settings}
        return resolve(self.method, self.benchmark, self.n_way, self.n_shot, given, self.recipe)


def held_settings(method: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return setting -> value of texts such as "steps=50" and "base-gradient=head".

    Raises:
        InputError: no such setting of `method`, or a value of another type.
    """
    return parse_variant(f"{method}:{','.join(texts)}")[1] if texts else {}


def _typed(method: str, name: str, text: str) -> Any:
    return parse_variant(f"{method}:{_flag(name)}={text}")[1][name]


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _flag(name: str) -> str:
    return name.replace("_", "-")
