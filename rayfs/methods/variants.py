"""Methods and variants as `--methods` and the other flags give them: how they are read, and what is refused.

A method is asked for by its name, or by a variant of it: `label-halluc:base-gradient=head,steps=100`. The whole text is
the name of its rows, so that variants stand beside one another in one table, on the same episodes. A value that holds a
comma stands in quotes: `checkpoint="/data/a,b.pth"`. No torch here.
"""

import shlex
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rayfs.errors import InputError
from rayfs.methods import registry
from rayfs.methods.definition import MethodSettings
from rayfs.methods.finetuning.recipe import BENCHMARK_RECIPES
from rayfs.methods.recipe import RecipeName, Situation


def method_settings(
    specs: Sequence[str],
    benchmark: str,
    n_way: int,
    n_shot: int,
    given: Mapping[str, Any],
    recipe: RecipeName = "released",
) -> dict[str, Any]:
    """Return the settings of each method or variant in `specs`, under the proper form of the name it was asked for by.

    Arguments:
        given: setting -> value of the flags that were given; each must be a setting of a method that is asked for.
        recipe: flags, and then a variant's own settings, go before it.

    Raises:
        InputError: an unknown method or setting, an impossible value, a setting that changes nothing, or a recipe that
            is not for the benchmark.
    """
    refuse_recipe_of_another_benchmark(recipe, benchmark)
    parsed = parse_variants(specs)
    _refuse_useless_flags([name for name, _ in parsed.values()], given)
    protocol = (benchmark, n_way, n_shot)
    resolved: dict[str, Any] = {}
    for spec, (name, own) in parsed.items():
        method = registry.find(name)
        resolved[spec] = resolve(name, *protocol, {**given, **own}, recipe)
        for setting in sorted(own):
            if reason := method.why_inert(resolved[spec], setting):
                raise InputError(f"--methods {spec}: {flag_of(setting)} changes nothing where {reason}; drop one")
        if own and resolved[spec] == resolve(name, *protocol, given, recipe):
            raise InputError(f"--methods {spec}: these are the settings of {name} anyway; drop them or change them")
    _refuse_inert_flags(resolved, given)
    _refuse_twins(resolved)
    return resolved


def parse_variants(specs: Sequence[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return proper name -> (method, own settings) of each method or variant.

    Raises:
        InputError: none is given, one is given twice, or one cannot be read.
    """
    parsed = {registry.canonical(spec): parse_variant(spec) for spec in specs}
    if not parsed or len(parsed) < len(specs):
        known = ", ".join(registry.names())
        raise InputError(f"--methods is '{' '.join(specs)}'; expected some of {known}, each once")
    return parsed


def parse_variant(spec: str) -> tuple[str, dict[str, Any]]:
    """Split "label-halluc:base-gradient=head,steps=100" into the method's name and its settings with their values.

    Raises:
        InputError: no such method or setting, one given twice, or a value of another type.
    """
    asked, _, text = spec.partition(":")
    try:
        method = registry.find(asked)
        own = parse_settings(method.name, _split(text))
    except InputError as error:
        raise InputError(f"--methods {spec}: {error}") from None
    if ":" in spec and not own:
        raise InputError(f"--methods {spec}: no setting follows the colon; write {asked}:NAME=VALUE, or {asked}")
    return method.name, own


def parse_settings(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return setting -> value of texts such as "base-gradient=head" and "steps=100".

    Raises:
        InputError: no such setting of method `name`, one given twice, or a value of another type.
    """
    method, own = registry.find(name), dict[str, Any]()
    for text in texts:
        flag, sign, value = text.partition("=")
        setting = flag.strip().replace("-", "_")
        if not sign or setting not in method.setting_names:
            known = ", ".join(sorted(map(flag_of, method.setting_names)))
            raise InputError(f"'{text}' is not a setting of {method.name}; expected NAME=VALUE of {known}")
        if setting in own:
            raise InputError(f"'{flag.strip()}' is given twice; once will do")
        own[setting] = parse_value(method.name, setting, value.strip())
    return own


def parse_value(name: str, setting: str, text: str) -> Any:
    """Return the value of a setting of method `name` that a text stands for.

    Raises:
        InputError: it is of another type.
    """
    hint = get_type_hints(registry.find(name).settings)[setting]
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(option for option in get_args(hint) if option is not type(None))
    if get_origin(hint) is Literal:
        return text  # the settings refuse other words themselves
    try:
        return hint(text)
    except ValueError:
        raise InputError(f"{flag_of(setting)} is '{text}'; expected {hint.__name__}") from None


def text_of(settings: Mapping[str, Any]) -> str:
    """Return the part of a variant behind the colon, which `parse_variant` reads as these settings."""
    return ",".join(f"{flag_of(name)}={_quoted(value)}" for name, value in sorted(settings.items()))


def resolve(
    name: str, benchmark: str, n_way: int, n_shot: int, given: Mapping[str, Any], recipe: RecipeName = "released"
) -> Any:
    """Return the settings of method `name`; those of `given` that it has go before the recipe's values.

    Raises:
        InputError: no such method, or an impossible value.
    """
    method = registry.find(name)
    own = {setting: value for setting, value in given.items() if setting in method.setting_names}
    return method.resolve(Situation(benchmark=benchmark, n_way=n_way, n_shot=n_shot, recipe=recipe, given=own))


def refuse_recipe_of_another_benchmark(recipe: RecipeName, benchmark: str) -> None:
    """Refuse a recipe for photographs where the benchmark has a recipe of its own."""
    if recipe == "fast" and benchmark in BENCHMARK_RECIPES:
        raise InputError(
            f"--recipe {recipe} is for photographs; {benchmark} has a recipe of its own, which is cheap already "
            f"({BENCHMARK_RECIPES[benchmark]['steps']} steps); drop --recipe"
        )


def flag_of(setting: str) -> str:
    """Return a setting's name as flags and variants spell it."""
    return setting.replace("_", "-")


def _split(text: str) -> list[str]:
    """Split at commas outside of quotes, and take the quotes away.

    Raises:
        InputError: a quote is not closed.
    """
    words = shlex.shlex(text, posix=True)
    words.whitespace, words.whitespace_split, words.commenters, words.escape = ",", True, "", ""
    try:
        return list(words)
    except ValueError:
        raise InputError("a quotation mark is not closed") from None


def _quoted(value: Any) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    if not any(mark in text for mark in ",'\""):
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'


def _refuse_useless_flags(names: Sequence[str], given: Mapping[str, Any]) -> None:
    for setting in given:
        owners = registry.owners(setting)
        if not set(owners) & set(names):
            raise InputError(
                f"--{flag_of(setting)} changes nothing: it is a setting of {', '.join(owners)}, and --methods "
                f"is '{' '.join(names)}'; drop the flag or add such a method"
            )


def _refuse_inert_flags(resolved: Mapping[str, MethodSettings], given: Mapping[str, Any]) -> None:
    for setting in sorted(given):
        methods = {spec: registry.method_of(settings) for spec, settings in resolved.items()}
        owners = [spec for spec, method in methods.items() if setting in method.setting_names]
        reasons = [methods[spec].why_inert(resolved[spec], setting) for spec in owners]
        if all(reasons):
            raise InputError(
                f"--{flag_of(setting)} changes nothing in {', '.join(owners)}, where {reasons[0]}; drop one of them"
            )


def _refuse_twins(resolved: Mapping[str, MethodSettings]) -> None:
    for spec, settings in resolved.items():
        twin = next(other for other in resolved if resolved[other] == settings)
        if twin != spec:
            raise InputError(f"--methods: {spec} has the settings of {twin}; each once")
