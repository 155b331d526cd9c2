"""Values of methods that finetune: those released with Label Hallucination, ours for Omniglot, the fast ones."""

from typing import Any

from rayfs.methods.recipe import RecipeName, Situation, frozen_recipe

RELEASED_STEPS = {
    ("cifar-fs", 5): 307,
    ("cifar-fs", 1): 921,
    ("fc100", 5): 288,
    ("fc100", 1): 1440,
}
"""SGD steps of 5-way episodes by (benchmark, n_shot): README flags of the released code, counted with `drop_last`."""

MANY_WAYS, MANY_WAY_PASSES = ((10, 5), (20, 10)), 2
"""(n_way, n_shot) that pass over the base set so often on CIFAR-FS and FC100 (README of the released code)."""

BASE_IMAGES = {"cifar-fs": 38_400, "fc100": 36_000}

PAPER_STEPS = 300
"""The paper's "about 300 steps": benchmarks it does not know; and finetuning on support or hard labels everywhere, also
where Label Hallucination takes more ("300 steps only")."""

OMNIGLOT_RECIPE: dict[str, Any] = {"steps": 40, "step_views": 5, "lr": 0.1, "head_init": "logistic-regression"}
"""Ours, chosen on the validation classes (jobs/RESULTS.md, "Omniglot")."""

BENCHMARK_RECIPES: dict[str, dict[str, Any]] = {"omniglot": OMNIGLOT_RECIPE, "omniglot-one-shot": OMNIGLOT_RECIPE}

FAST: dict[str, Any] = {"steps": 100, "head_lr": 0.3, "frozen_blocks": 2, "frozen_views": 4}
"""Ours: the first two blocks stay frozen and keep the activations of 4 views of each image; a third of the steps, with
a learning rate of the head that lets its norm grow in them. Chosen for label-halluc on validation classes of FC100 with
Conv-4 (jobs/RESULTS.md, "A cheaper recipe"). The appendix of Label Hallucination claims more than 66% less cost; its
protocol is not at hand."""

RECIPES: dict[RecipeName, dict[str, Any]] = {"released": {}, "fast": FAST}
"""Settings that differ from the released ones."""


def recipes_of(benchmark: str) -> tuple[RecipeName, ...]:
    """Return what --recipe takes on a benchmark: one that has a recipe of its own has no fast one."""
    return ("released",) if benchmark in BENCHMARK_RECIPES else tuple(RECIPES)


def finetuning_recipe(situation: Situation, *, steps: int) -> dict[str, Any]:
    """Return the values of a method without base images; `steps` unless the benchmark or --recipe has its own."""
    return {"steps": steps, **_known(situation)}


def base_finetuning_recipe(situation: Situation, *, steps: int | None = None) -> dict[str, Any]:
    """Return the values of a method with base images: as many of them a step as support views, if none are given.

    Arguments:
        steps: unless the benchmark or --recipe has its own; None: the released ones of the protocol.
    """
    values = _known(situation)
    step_views = {**values, **situation.given}["step_views"]
    values.setdefault("base_batch", situation.n_way * situation.n_shot * step_views)
    base_batch = {**values, **situation.given}["base_batch"]
    released = released_steps(situation.benchmark, situation.n_way, situation.n_shot, base_batch)
    return {"steps": released if steps is None else steps, **values}


def released_steps(benchmark: str, n_way: int, n_shot: int, base_batch: int) -> int:
    """Return the released steps, those of 1-shot below 5 shots; the paper's 300 for benchmarks it does not know."""
    if (n_way, n_shot) in MANY_WAYS and benchmark in BASE_IMAGES:
        return MANY_WAY_PASSES * (BASE_IMAGES[benchmark] // base_batch)
    return RELEASED_STEPS.get((benchmark, 5 if n_shot >= 5 else 1), PAPER_STEPS)


def _known(situation: Situation) -> dict[str, Any]:
    """Return the values of the benchmark and of --recipe, and views of a step as many as support views."""
    values = {
        **frozen_recipe(situation),
        **BENCHMARK_RECIPES.get(situation.benchmark, {}),
        **RECIPES[situation.recipe],
    }
    support_views = {**values, **situation.given}["support_views"]
    return {"step_views": support_views, **values}
