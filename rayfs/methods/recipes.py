"""Released recipes, and the settings of methods as `--methods` and the other flags give them. No torch here.

A method is asked for by its name, or by a variant of it: `label-halluc:base-gradient=head,steps=100`. The whole text is
the name of its rows, so that variants stand beside one another in one table, on the same episodes.
"""

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rayfs.errors import InputError
from rayfs.methods.configs import CONFIGS, MethodConfig

SUPPORT_VIEWS_PER_CLASS = 25
"""Released code: 5 views of 5 images, 25 views of 1 image."""

RELEASED_STEPS = {
    ("cifar-fs", 5): 307,
    ("cifar-fs", 1): 921,
    ("fc100", 5): 288,
    ("fc100", 1): 1440,
}
"""SGD steps of 5-way episodes by (benchmark, n_shot): README flags of the released code, counted with `drop_last`."""

MANY_WAYS, MANY_WAY_PASSES = ((10, 5), (20, 10)), 2
"""(n_way, n_shot) that pass over the base set so often on CIFAR-FS and FC100 (README)."""

BASE_IMAGES = {"cifar-fs": 38_400, "fc100": 36_000}

PAPER_STEPS = 300
"""The paper's "about 300 steps": benchmarks it does not know, and finetuning on support or hard labels everywhere."""

ASSOALIGN_STEPS = 100
"""Best of 50 to 400 for associative alignment (Label Hallucination, section on AssoAlign)."""

DEFAULT_PROTOCOLS = {
    "omniglot": {"n_way": 10, "n_shot": 1, "n_query": 15, "episodes": 40},
    "omniglot-one-shot": {"n_way": 20, "n_shot": 1, "n_query": 1, "episodes": 20},
}
"""Ours for omniglot (README), official for omniglot-one-shot."""

LITERATURE_PROTOCOL = {"n_way": 5, "n_shot": 5, "n_query": 15, "episodes": 600}
"""What the papers report on photographs; --n-shot 1 for their other column."""

OMNIGLOT_RECIPE: dict[str, Any] = {"steps": 40, "step_views": 5, "lr": 0.1, "head_init": "logistic-regression"}
"""Ours, chosen on the validation classes (README, "Omniglot")."""

BENCHMARK_RECIPES: dict[str, dict[str, Any]] = {"omniglot": OMNIGLOT_RECIPE, "omniglot-one-shot": OMNIGLOT_RECIPE}

RecipeName = Literal["released", "fast"]
"""What --recipe takes."""

FAST: dict[str, Any] = {"steps": 100, "head_lr": 0.3, "frozen_blocks": 2, "frozen_views": 4}
"""Ours: the first two blocks stay frozen and keep the activations of 4 views of each image; a third of the steps, with
a learning rate of the head that lets its norm grow in them. Chosen for label-halluc on validation classes of FC100 with
Conv-4 (README, "A cheaper recipe"). The appendix of Label Hallucination claims more than 66% less cost; its protocol is
not at hand."""

RECIPES: dict[RecipeName, dict[str, Any]] = {"released": {}, "fast": FAST}
"""Settings that differ from the released ones."""


def released_support_views(n_shot: int) -> int:
    """Return A: 25 for 1-shot, 5 for 5-shot, 1 from 10-shot on (README); in between, about 25 views a class."""
    return 1 if n_shot >= 10 else max(1, round(SUPPORT_VIEWS_PER_CLASS / n_shot))


def released_steps(benchmark: str, n_way: int, n_shot: int, base_batch: int) -> int:
    """Return the released steps, those of 1-shot below 5 shots; the paper's 300 for benchmarks it does not know."""
    if (n_way, n_shot) in MANY_WAYS and benchmark in BASE_IMAGES:
        return MANY_WAY_PASSES * (BASE_IMAGES[benchmark] // base_batch)
    return RELEASED_STEPS.get((benchmark, 5 if n_shot >= 5 else 1), PAPER_STEPS)


def default_protocol(benchmark: str) -> dict[str, int]:
    """Return n_way, n_shot, n_query and episodes that `benchmark` is evaluated with unless flags say otherwise."""
    return DEFAULT_PROTOCOLS.get(benchmark, LITERATURE_PROTOCOL)


def method_configs(
    specs: Sequence[str],
    benchmark: str,
    n_way: int,
    n_shot: int,
    given: Mapping[str, Any],
    recipe: RecipeName = "released",
) -> dict[str, MethodConfig]:
    """Return the settings of each method or variant in `specs`, under the name it was asked for by.

    Arguments:
        given: field -> value of the flags that were given; each must be a field of a method that is asked for.
        recipe: one of `RECIPES`; flags, and then a variant's own settings, go before it.

    Raises:
        InputError: an unknown method or setting, an impossible value, a setting that changes nothing, or a recipe that
            is not for the benchmark.
    """
    if recipe == "fast" and benchmark in BENCHMARK_RECIPES:
        raise InputError(
            f"--recipe {recipe} is for photographs; {benchmark} has a recipe of its own, which is cheap already "
            f"({BENCHMARK_RECIPES[benchmark]['steps']} steps); drop --recipe"
        )
    parsed = {spec: parse_variant(spec) for spec in specs}
    if not parsed or len(parsed) < len(specs):
        raise InputError(f"--methods is '{' '.join(specs)}'; expected some of {', '.join(CONFIGS)}, each once")
    _refuse_useless_flags([name for name, _ in parsed.values()], given)
    protocol = (benchmark, n_way, n_shot)
    configs = {}
    for spec, (name, own) in parsed.items():
        applying = {field: value for field, value in given.items() if field in field_names(name)}
        configs[spec] = resolve(name, *protocol, {**applying, **own}, recipe)
        for field in sorted(own):
            if reason := why_inert(name, configs[spec], field):
                raise InputError(f"--methods {spec}: {_flag(field)} changes nothing where {reason}; drop one")
        if own and (configs[spec] == resolve(name, *protocol, applying, recipe)):
            raise InputError(f"--methods {spec}: these are the settings of {name} anyway; drop them or change them")
    for field in sorted(given):
        owners = {spec: configs[spec] for spec, (name, _) in parsed.items() if field in field_names(name)}
        reasons = [why_inert(parsed[spec][0], config, field) for spec, config in owners.items()]
        if all(reasons):
            raise InputError(
                f"--{_flag(field)} changes nothing in {', '.join(owners)}, where {reasons[0]}; drop one of them"
            )
    for spec, config in configs.items():
        twin = next(other for other in configs if configs[other] == config)
        if twin != spec:
            raise InputError(f"--methods: {spec} has the settings of {twin}; each once")
    return configs


def resolve(
    name: str, benchmark: str, n_way: int, n_shot: int, given: Mapping[str, Any], recipe: RecipeName = "released"
) -> MethodConfig:
    """Return the settings of method `name`: released ones, ours on Omniglot, the recipe's, and those `given`."""
    names = field_names(name)
    known = {**BENCHMARK_RECIPES.get(benchmark, {}), **RECIPES[recipe], **given}
    chosen = {field: value for field, value in known.items() if field in names}
    chosen.setdefault("support_views", released_support_views(n_shot))
    if "step_views" in names:
        chosen.setdefault("step_views", chosen["support_views"])
        base_batch = n_way * n_shot * chosen["step_views"]
        if "base_batch" in names:
            base_batch = chosen.setdefault("base_batch", base_batch)
        chosen.setdefault("steps", _default_steps(name, benchmark, n_way, n_shot, base_batch))
    return CONFIGS[name](**chosen)


def _default_steps(name: str, benchmark: str, n_way: int, n_shot: int, base_batch: int) -> int:
    if name == "assoalign":
        return ASSOALIGN_STEPS
    if name in ("support-only", "hard-label"):  # "300 steps only", also where Label Hallucination takes more
        return PAPER_STEPS
    return released_steps(benchmark, n_way, n_shot, base_batch)


def parse_variant(spec: str) -> tuple[str, dict[str, Any]]:
    """Split "label-halluc:base-gradient=head,steps=100" into the method's name and its fields with their values.

    Raises:
        InputError: no such method or setting, one given twice, or a value of another type.
    """
    name, _, settings = spec.partition(":")
    if name not in CONFIGS:
        raise InputError(f"--methods {spec}: there is no method '{name}'; expected some of {', '.join(CONFIGS)}")
    own: dict[str, Any] = {}
    for setting in filter(None, settings.split(",")):
        flag, sign, text = setting.partition("=")
        field = flag.strip().replace("-", "_")
        if not sign or field not in field_names(name):
            known = ", ".join(sorted(map(_flag, field_names(name))))
            raise InputError(
                f"--methods {spec}: '{setting}' is not a setting of {name}; expected NAME=VALUE of {known}"
            )
        if field in own:
            raise InputError(f"--methods {spec}: '{flag.strip()}' is given twice; once will do")
        own[field] = _value(spec, name, field, text.strip())
    if ":" in spec and not own:
        raise InputError(f"--methods {spec}: no setting follows the colon; write {name}:NAME=VALUE, or {name}")
    return name, own


def field_names(name: str) -> set[str]:
    """Return the settings that method `name` has."""
    return {field.name for field in fields(CONFIGS[name])}


def _value(spec: str, name: str, field: str, text: str) -> Any:
    hint = get_type_hints(CONFIGS[name])[field]
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(option for option in get_args(hint) if option is not type(None))
    if get_origin(hint) is Literal:
        return text  # the settings refuse other words themselves
    try:
        return hint(text)
    except ValueError:
        raise InputError(f"--methods {spec}: {_flag(field)} is '{text}'; expected {hint.__name__}") from None


def _refuse_useless_flags(names: Sequence[str], given: Mapping[str, Any]) -> None:
    for field in given:
        if not any(field in field_names(name) for name in names):
            owners = [name for name in CONFIGS if field in field_names(name)]
            raise InputError(
                f"--{_flag(field)} changes nothing: it is a setting of {', '.join(owners)}, and --methods "
                f"is '{' '.join(names)}'; drop the flag or add such a method"
            )


def why_inert(name: str, config: MethodConfig, field: str) -> str | None:
    """Return which setting of a method makes another one meaningless; None where it is used."""

    def has(other: str, value: object) -> bool:
        return getattr(config, other, MISSING) == value

    inert: list[tuple[bool, set[str], str]] = [
        (has("base_subset", "all") and name != "assoalign", {"related_classes"}, "base-subset is all"),
        (has("classifier_loss", "softmax"), {"arc_scale", "arc_margin"}, "classifier-loss is softmax"),
        (has("classifier_loss", "arcmax"), {"normalize"}, "classifier-loss is arcmax"),
        (has("base_gradient", "none"), {"temperature", "lambda_kl", "pseudo_label_view"}, "base-gradient is none"),
        (has("lambda_kl", 0), {"temperature", "base_gradient", "pseudo_label_view"}, "lambda-kl is 0"),
        (has("lambda_base", 0), {"pseudo_label_view"}, "lambda-base is 0"),
        (getattr(config, "frozen_blocks", 0) > 0, {"first_conv"}, "frozen-blocks is above 0"),
        (name == "support-only" and has("head_init", "random"), {"c"}, "head-init is random"),
        (
            name == "feature-distill" and has("base_subset", "all") and has("head_init", "random"),
            {"c"},
            "head-init is random and base-subset all",
        ),
    ]
    return next((reason for applies, useless, reason in inert if applies and field in useless), None)


def _flag(field: str) -> str:
    return field.replace("_", "-")
