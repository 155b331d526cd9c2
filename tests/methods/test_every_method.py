"""One suite that every method passes."""

import random
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from method_tracing import spy_on_pseudo_logits

import rayfs.methods.hard_label.solve
import rayfs.methods.label_halluc.solve
from rayfs.backbones.regularisation import set_generator
from rayfs.backbones.resnet12 import ResNet12
from rayfs.backbones.state import state_hash
from rayfs.methods import registry
from rayfs.methods.definition import MethodSettings
from rayfs.methods.finetuning.base_rows import RowSampler
from rayfs.methods.method import Method, Solution, Task
from rayfs.methods.registry import create_method
from rayfs.methods.variants import parse_variant
from rayfs.randomness import EpisodeRandomness, torch_generator

SMALL: dict[str, Any] = {
    "steps": 4, "support_views": 3, "step_views": 2, "base_batch": 10, "head_init": "logistic-regression",
}  # fmt: skip
VARIANTS = [
    "label-halluc:base-gradient=none",
    "label-halluc:base-gradient=head",
    "label-halluc:base-gradient=backbone",
    "label-halluc:base-subset=related,related-classes=2",
    "label-halluc:base-fraction=0.4,base-imbalance=exponential,imbalance-ratio=4",
    "label-halluc:base-fraction=0.5",
    "label-halluc:base-imbalance=step,imbalance-ratio=3",
    "label-halluc:support-batch=4",
    "label-halluc:schedule=linear",
    "label-halluc:schedule=cosine",
    "label-halluc:early-stop=1",
    "label-halluc:frozen-blocks=1",
    "label-halluc:frozen-blocks=1,frozen-views=2",
    "label-halluc:batch-norm=split",
    "assoalign:classifier-loss=arcmax",
    "assoalign:centroid-alignment=off",
]
RANDOMNESS = EpisodeRandomness(seed=3, index=11)


def make_config(spec: str) -> MethodSettings:
    """Return small settings of a method or variant."""
    name, own = parse_variant(spec)
    method = registry.find(name)
    return method.settings(
        **{field: value for field, value in {**SMALL, **own}.items() if field in method.setting_names}
    )


@pytest.fixture(params=[*registry.names(), *VARIANTS])
def method(request: pytest.FixtureRequest) -> Method:
    return create_method(make_config(request.param))


@pytest.fixture(params=registry.names())
def plain_method(request: pytest.FixtureRequest) -> Method:
    """Return a method by itself: its variants share the code that such a test is about."""
    return create_method(make_config(request.param))


@pytest.fixture(scope="module")
def world(characters, make_world):
    return make_world(characters, kept=((1, 2),))


@pytest.fixture(scope="module")
def blobs(make_blobs) -> dict[int, tuple]:
    """Return separable classes and their world by the number of channels."""
    return {channels: make_blobs(channels) for channels in (1, 3)}


@pytest.fixture(scope="module")
def task(characters, make_task) -> Task:
    return make_task(characters, [1, 4, 6], n_shot=2, n_query=4)


def test_gives_one_finite_row_of_logits_a_query(method, world, task):
    solution = method.solve(task, world, RANDOMNESS)
    assert solution.logits.shape == (12, 3)
    assert solution.logits.dtype == torch.float32
    assert solution.logits.isfinite().all()
    assert not solution.logits.is_inference() and not solution.logits.requires_grad


def test_reports_its_steps_and_losses(method, world, task):
    solution, steps = method.solve(task, world, RANDOMNESS), getattr(method.settings, "steps", 0)
    early = bool(getattr(method.settings, "early_stop", 0))
    assert (2 if early else steps) <= solution.steps <= steps
    for loss, is_there in [
        (solution.loss_base, "base_batch" in field_names_of(method)), (solution.loss_support, steps > 0)
    ]:  # fmt: skip
        assert (loss is not None) == is_there
        assert loss is None or (np.isfinite(loss) and loss >= 0)


def test_shows_what_hallucinated_labels_are_surest_of(method, world, task):
    top = method.solve(task, world, RANDOMNESS).top_base
    assert (top is not None) == ("pseudo_label_view" in field_names_of(method))
    if top is not None:
        assert top.rows.shape == top.probabilities.shape == (3, 8)
        assert ((top.probabilities > 0) & (top.probabilities <= 1)).all()
        assert torch.equal(top.probabilities, top.probabilities.sort(dim=1, descending=True).values)
        assert all(len(set(rows)) == 8 and set(rows) <= set(range(160)) for rows in top.rows.tolist())


def test_same_randomness_gives_the_same_logits_and_another_seed_others(method, world, task):
    first, again = (method.solve(task, world, RANDOMNESS).logits for _ in range(2))
    assert torch.equal(first, again)
    for other in (replace(RANDOMNESS, seed=4), replace(RANDOMNESS, index=12)):
        assert not torch.equal(first, method.solve(task, world, other).logits)


def test_leaves_the_shared_world_as_it_was(method, world, task):
    def fingerprint() -> tuple:
        backbone, bank = world.backbone, world.bank
        flags = [module.training for module in backbone.modules()], [p.requires_grad for p in backbone.parameters()]
        no_gradients = all(parameter.grad is None for parameter in backbone.parameters())
        return state_hash(backbone), flags, no_gradients, bank.features.tobytes(), np.array(bank.table.images).tobytes()

    before = fingerprint()
    inputs = [task.support_images.clone(), task.support_labels.clone(), task.query_images.clone()]
    method.solve(task, world, RANDOMNESS)
    assert fingerprint() == before
    for tensor, copy in zip((task.support_images, task.support_labels, task.query_images), inputs, strict=True):
        assert torch.equal(tensor, copy)


def test_leaves_dropout_of_the_shared_backbone_as_it_was(plain_method, characters, make_world, task):
    backbone = ResNet12(1, (4, 6, 8, 8), dropblock_size=2, generator=torch_generator(0, "weights"))
    generator = torch_generator(0, "somebody else's")
    set_generator(backbone, generator)
    blocks = [backbone.layer3[0].regularise, backbone.layer4[0].regularise]
    for block in blocks:
        block.n_forwards.fill_(500)
    state = generator.get_state()
    plain_method.solve(task, make_world(characters, backbone), RANDOMNESS)
    assert [block.n_forwards.item() for block in blocks] == [500, 500]
    assert all(block.generator is generator and block.drop_rate == 0.1 for block in blocks)
    assert torch.equal(generator.get_state(), state)


def test_leaves_global_random_states_and_grad_mode_as_they_were(method, world, task):
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())  # noqa: NPY002
    method.solve(task, world, RANDOMNESS)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), str(np.random.get_state())) == before[1:]  # noqa: NPY002
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_a_task_has_no_query_labels():
    assert {field.name for field in fields(Task)} == {"support_images", "support_labels", "query_images", "n_way"}


def test_permuting_the_queries_permutes_the_logits(method, world, task):
    order = torch.randperm(12, generator=torch_generator(0, "order"))
    logits = method.solve(task, world, RANDOMNESS).logits
    permuted = method.solve(replace(task, query_images=task.query_images[order]), world, RANDOMNESS).logits
    torch.testing.assert_close(permuted, logits[order], atol=1e-5, rtol=1e-5)


def test_each_query_is_judged_alone(method, world, task):
    logits = method.solve(task, world, RANDOMNESS).logits
    alone = method.solve(replace(task, query_images=task.query_images[5:6]), world, RANDOMNESS).logits
    torch.testing.assert_close(alone, logits[5:6], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("channels", "n_way"), [(1, 4), (3, 2)])
def test_beats_chance_on_separable_classes(method, blobs, make_task, channels, n_way):
    if getattr(method.settings, "frozen_views", 0):
        pytest.skip("backbones that can be split do not tell these images apart untrained, and this one cannot be")
    table, world = blobs[channels]
    solution = method.solve(make_task(table, list(range(n_way)), n_shot=1, n_query=10), world, RANDOMNESS)
    assert solution.logits.shape == (10 * n_way, n_way)
    assert accuracy(solution, n_way) > 0.9


@pytest.mark.parametrize("name", ["lr", "nearest-prototype"])
def test_permuting_class_labels_permutes_the_columns_of_a_frozen_method(name, world, task):
    method = create_method(make_config(name))
    renamed = torch.tensor([2, 0, 1])
    logits = method.solve(task, world, RANDOMNESS).logits
    permuted = method.solve(replace(task, support_labels=renamed[task.support_labels]), world, RANDOMNESS).logits
    torch.testing.assert_close(permuted[:, renamed], logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "module"),
    [("label-halluc", rayfs.methods.label_halluc.solve), ("hard-label", rayfs.methods.hard_label.solve)],
)
def test_pseudo_labels_come_from_the_very_classifier_of_the_baseline(
    name, module, world, characters, task, monkeypatch
):
    """With the base images as queries, the baseline's logits are the pseudo-logits of the rows that are drawn."""
    seen = spy_on_pseudo_logits(module, monkeypatch)
    everything = replace(task, query_images=characters.take(np.arange(len(characters))))
    baseline = create_method(make_config("lr")).solve(everything, world, RANDOMNESS).logits
    finetuning = create_method(make_config(name))
    top = finetuning.solve(task, world, RANDOMNESS).top_base
    sampler = RowSampler(len(characters), finetuning.settings.base_batch, RANDOMNESS.generator("base rows"))
    assert len(seen) == finetuning.settings.steps
    for pseudo_logits in seen:
        expected = baseline[sampler.draw()]
        torch.testing.assert_close(pseudo_logits, expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(pseudo_logits.argmax(dim=1), expected.argmax(dim=1))
    surest = baseline.softmax(1).max(0).values
    torch.testing.assert_close(top.probabilities[:, 0], surest, atol=1e-5, rtol=1e-5)


def test_prototype_logits_equal_a_loop_over_queries_and_classes(world, task):
    """The unit features of the very views that the baseline is fitted to; two loops."""
    method = create_method(make_config("nearest-prototype"))
    views = world.views(task.support_images.repeat(3, 1, 1, 1), RANDOMNESS.generator("support views"))
    with torch.no_grad():
        support = [z / z.norm() for z in world.backbone(views).double()]
        queries = [z / z.norm() for z in world.backbone(world.plain(task.query_images)).double()]
    labels = task.support_labels.tolist() * 3
    means = [torch.stack([z for z, label in zip(support, labels, strict=True) if label == k]).mean(0) for k in range(3)]
    expected = torch.tensor([[-((z - mean) ** 2).sum() for mean in means] for z in queries])
    torch.testing.assert_close(
        method.solve(task, world, RANDOMNESS).logits.double(), expected.double(), atol=1e-5, rtol=1e-4
    )


def test_base_images_of_gradient_none_still_move_the_batch_statistics(world, task):
    """That is what tells the variant from `support-only`, whose support batches are the same but for the base views."""
    none, alone = (
        create_method(make_config(spec)).solve(task, world, RANDOMNESS)
        for spec in ("label-halluc:base-gradient=none", "support-only")
    )
    assert not torch.equal(none.logits, alone.logits)
    assert none.loss_base is not None and alone.loss_base is None


def test_keeping_activations_in_half_precision_changes_little(world, task):
    method = create_method(make_config("label-halluc:frozen-blocks=1,frozen-views=2"))
    kept = world.activations[1, 2]
    half = replace(world, activations={(1, 2): replace(kept, features=kept.features.astype(np.float16))})
    exact, rounded = (method.solve(task, each, RANDOMNESS).logits for each in (world, half))
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, atol=0.01, rtol=0.01)


def test_each_variant_gives_other_logits_than_its_method(world, task):
    plain = {name: create_method(make_config(name)).solve(task, world, RANDOMNESS).logits for name in registry.names()}
    seen = list(plain.values())
    for spec in VARIANTS:
        logits = create_method(make_config(spec)).solve(task, world, RANDOMNESS).logits
        assert not any(torch.equal(logits, other) for other in seen), spec
        seen.append(logits)


def accuracy(solution: Solution, n_way: int) -> float:
    labels = torch.arange(n_way).repeat_interleave(len(solution.logits) // n_way)
    return (solution.logits.argmax(dim=1) == labels).float().mean().item()


def field_names_of(method: Method) -> set[str]:
    return {field.name for field in fields(method.settings)}
