"""Settings of the methods and the released recipes. No torch here, so that a command line opens fast."""

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rayfs.errors import InputError

METHODS = ("lr", "label-halluc")
"""What --methods takes; the first is the baseline of every gain."""

BASELINE = "lr"

SUPPORT_VIEWS_PER_CLASS = 25
"""Released code: 5 views of 5 images, 25 views of 1 image."""

RELEASED_STEPS = {
    ("cifar-fs", 5): 307,
    ("cifar-fs", 1): 921,
    ("fc100", 5): 288,
    ("fc100", 1): 1440,
}
"""SGD steps by (benchmark, n_shot): README flags of the released code, counted with `drop_last`."""

PAPER_STEPS = 300
"""The paper's "about 300 steps", for benchmarks it does not know."""

DEFAULT_PROTOCOLS = {
    "omniglot": {"n_way": 10, "n_shot": 1, "n_query": 15, "episodes": 40},
    "omniglot-one-shot": {"n_way": 20, "n_shot": 1, "n_query": 1, "episodes": 20},
}
"""Ours for omniglot (README), official for omniglot-one-shot."""

LITERATURE_PROTOCOL = {"n_way": 5, "n_shot": 5, "n_query": 15, "episodes": 600}
"""What the papers report on photographs; --n-shot 1 for their other column."""

OMNIGLOT_RECIPE: dict[str, Any] = {"steps": 40, "step_views": 5, "lr": 0.1, "head_init": "logistic-regression"}
"""Ours, chosen on the validation classes (README, "Omniglot")."""

DEFAULT_RECIPES: dict[str, dict[str, Any]] = {"omniglot": OMNIGLOT_RECIPE, "omniglot-one-shot": OMNIGLOT_RECIPE}


@dataclass(frozen=True, kw_only=True)
class FrozenConfig:
    """Settings of the frozen-backbone baseline `lr`."""

    support_views: int
    """Augmented views of each support image that the classifier is fitted to."""
    c: float = 1.0
    """Inverse penalty of the logistic regression (released code)."""

    def __post_init__(self) -> None:
        _refuse_below_one(self, "support_views")
        _refuse_unless_positive(self, "c")


@dataclass(frozen=True, kw_only=True)
class LabelHallucConfig:
    """Settings of Label Hallucination; every field that has a default has the released code's."""

    steps: int
    """SGD steps per episode (`RELEASED_STEPS`)."""
    support_views: int
    """A, augmented views of each support image that the pseudo-labelling classifier is fitted to (25 for 1-shot, 5 for
    5-shot: README)."""
    step_views: int
    """Fresh augmented views of each support image in every step (A, as released; fewer make a step cheaper)."""
    base_batch: int
    """Base images in every step (as many as support views in a step: README)."""
    temperature: float = 4.0
    """T of the distillation (code)."""
    lambda_kl: float = 1.0
    """Weight of the distillation on base images (paper eq. 3)."""
    lambda_ce: float = 1.0
    """Weight of the cross-entropy on support images (paper eq. 3)."""
    lr: float = 0.025
    """Learning rate of the backbone, constant (code)."""
    head_lr: float = 0.05
    """Learning rate of the head, constant (code)."""
    momentum: float = 0.9
    """Of SGD (code)."""
    weight_decay: float = 5e-4
    """L2 penalty (code)."""
    c: float = 1.0
    """Inverse penalty of the logistic regression that hallucinates the labels (code)."""
    first_conv: Literal["frozen", "trained"] = "frozen"
    """The released optimiser leaves the first convolution out; 'trained' is what the paper describes."""
    head_init: Literal["random", "logistic-regression"] = "random"
    """The released head starts at random; the other starts from the classifier that made the pseudo-labels."""
    batch_norm: Literal["joint", "split"] = "joint"
    """Statistics over base and support together (one GPU: CIFAR-FS, FC100), or apart with the running ones from base
    only (two GPUs: miniImageNet, tieredImageNet)."""
    pseudo_label_view: Literal["plain", "augmented"] = "plain"
    """The teacher sees the base image itself (cached features), or the student's view of it (tieredImageNet)."""
    dropout: Literal["on", "off"] = "on"
    """The backbone's dropout and DropBlock while finetuning; the ramp starts anew in every episode."""
    normalize: Literal["on", "off"] = "on"
    """The finetuned head sees features of unit length (`--norm_feat`)."""

    def __post_init__(self) -> None:
        _refuse_below_one(self, "steps", "support_views", "step_views", "base_batch")
        _refuse_unless_positive(self, "temperature", "lr", "head_lr", "c")
        _refuse_unknown_choices(self)
        for name in ("lambda_kl", "lambda_ce", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name)}; expected zero or a positive number")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum is {self.momentum}; expected 0 or more, and less than 1")


def _refuse_below_one(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise InputError(f"{name} is {getattr(config, name)}; expected at least 1")


def _refuse_unless_positive(config: object, *names: str) -> None:
    for name in names:
        if not 0 < getattr(config, name) < float("inf"):
            raise InputError(f"{name} is {getattr(config, name)}; expected a positive number")


def _refuse_unknown_choices(config: object) -> None:
    """Refuse a word that a `Literal` field does not list: the methods would take it for the field's other word."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal and getattr(config, name) not in get_args(hint):
            raise InputError(f"{name} is '{getattr(config, name)}'; expected {' or '.join(get_args(hint))}")


def released_support_views(n_shot: int) -> int:
    """Return A: 25 for 1-shot, 5 for 5-shot, 1 from 10-shot on (README); in between, about 25 views a class."""
    return 1 if n_shot >= 10 else max(1, round(SUPPORT_VIEWS_PER_CLASS / n_shot))


def released_steps(benchmark: str, n_shot: int) -> int:
    """Return the released steps, those of 1-shot below 5 shots; the paper's 300 for benchmarks it does not know."""
    return RELEASED_STEPS.get((benchmark, 5 if n_shot >= 5 else 1), PAPER_STEPS)


def default_protocol(benchmark: str) -> dict[str, int]:
    """Return n_way, n_shot, n_query and episodes that `benchmark` is evaluated with unless flags say otherwise."""
    return DEFAULT_PROTOCOLS.get(benchmark, LITERATURE_PROTOCOL)


def label_halluc_config(benchmark: str, n_way: int, n_shot: int, given: dict[str, Any]) -> LabelHallucConfig:
    """Return the recipe of `benchmark` with the fields of `given` that are not None in its place.

    The released recipe, except on Omniglot, which the paper does not know.
    """
    defaults = {
        "steps": released_steps(benchmark, n_shot),
        "support_views": released_support_views(n_shot),
        **DEFAULT_RECIPES.get(benchmark, {}),
    }
    chosen = {**defaults, **{name: value for name, value in given.items() if value is not None}}
    chosen.setdefault("step_views", chosen["support_views"])
    chosen.setdefault("base_batch", n_way * n_shot * chosen["step_views"])
    return LabelHallucConfig(**chosen)
