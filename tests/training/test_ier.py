"""IER: negatives, contrast and memory by hand and against loops, both losses, two workers as one."""

import math
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from loss_oracle import cross_entropy, divergence, invariance, mean_squared_error
from small_objectives import (
    N_CLASSES,
    create,
    ier_gen0,
    ier_outputs,
    images,
    labels,
    memory_of_one_of_two,
    normal,
    teacher,
    train_memory,
)

from rayfs.errors import InputError
from rayfs.randomness import torch_generator
from rayfs.training.objectives.ier_gen0.loss import (
    IerGen0,
    TransformDraws,
    contrast,
    draw_negatives,
    invariance_loss,
    mlp,
    remember,
)

LN_2, LN_1_E = 0.693147, 1.313262
"""ln 2 and ln(1 + e)."""

NO_VIEWS = TransformDraws(aspects=(), offsets_NA2=torch.zeros(0, 4, 2), negatives_K=torch.tensor([1]))


def draws_of(objective, n: int, seed: int = 0) -> TransformDraws:
    return objective.draw(torch.arange(n), torch_generator(seed, "views"))


# Negatives


def test_negatives_are_distinct_and_never_of_the_batch():
    rows = torch.tensor([3, 19, 3, 0])
    for seed in range(50):
        negatives = draw_negatives(rows, 20, 8, torch_generator(seed, "negatives"))
        assert len(negatives) == len(negatives.unique()) == 8
        assert not torch.isin(negatives, rows).any()


def test_negatives_are_all_other_images_where_there_are_few():
    negatives = draw_negatives(torch.tensor([0, 2]), 5, 6400, torch_generator(0, "negatives"))
    assert sorted(negatives.tolist()) == [1, 3, 4]
    assert len(draw_negatives(torch.arange(5), 5, 6400, torch_generator(0, "negatives"))) == 0


def test_negatives_are_drawn_evenly():
    generator = torch_generator(0, "negatives")
    drawn = torch.cat([draw_negatives(torch.tensor([2]), 5, 2, generator) for _ in range(2000)])
    counts = drawn.bincount(minlength=5)
    assert counts[2] == 0
    assert all(abs(counts[row] - 1000) < 4.5 * math.sqrt(1000) for row in (0, 1, 3, 4))


def test_a_part_of_the_batch_keeps_all_negatives():
    draws = draws_of(ier_gen0(), 6)
    assert torch.equal(draws.part(slice(2, 4)).negatives_K, draws.negatives_K)
    assert draws.part(slice(2, 4)).offsets_NA2.tolist() == draws.offsets_NA2[2:4].tolist()


# Contrast


def test_contrast_worked_by_hand():
    anchors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [1.0, 0.0]])
    positives = torch.tensor([[0.0, 2.0], [3.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    # cos(a, p) is 0, 0, 0, 1 and cos(p, n) is 0, 1, 1, 1.
    expected = torch.tensor([LN_2, LN_1_E, LN_1_E, LN_2])
    torch.testing.assert_close(
        contrast(anchors, positives, torch.tensor([[5.0, 0.0]]), 1.0), expected, atol=5e-6, rtol=0
    )


def test_contrast_without_negatives_keeps_the_epsilon():
    pair = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    loss = contrast(pair, pair, pair[:0], 1.0).item()
    assert loss == pytest.approx(math.log(1 + 1e-6 / math.e), rel=1e-5)


def test_contrast_is_finite_at_a_low_temperature():
    pair = torch.tensor([[1.0, 0.0]])
    assert contrast(pair, -pair, pair.repeat(4, 1), 0.001).isfinite().all()


def test_invariance_pairs_slot_and_view_then_view_and_transforms():
    # The four pairs of the table above: image 0 then image 1 untransformed, then both transformed.
    slots = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    z = torch.tensor([[0.0, 2.0], [1.0, 0.0], [3.0, 0.0], [1.0, 0.0]])
    loss = invariance_loss(z, slots, torch.tensor([[5.0, 0.0]]), 1.0)
    assert loss.item() == pytest.approx((LN_2 + LN_1_E) / 2, abs=5e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_invariance_equals_a_loop_over_images_and_transforms(temperature):
    z, slots, negatives = (normal(n, 7, stream=f"{n}").double() for n in (12, 3, 5))
    slots[1] = 0
    expected = invariance(z, slots, negatives, temperature)
    assert invariance_loss(z, slots, negatives, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_of_invariance_equals_finite_differences():
    z, slots, negatives = (normal(n, 4, stream=f"{n}").double() for n in (6, 2, 3))
    assert torch.autograd.gradcheck(lambda z: invariance_loss(z, slots, negatives, 0.5), z.requires_grad_())


# Memory


def tiny() -> tuple[IerGen0, dict[str, torch.Tensor]]:
    """Return an objective over 3 images, 2-d embeddings in 64 dimensions, and outputs for images 0 and 2."""
    objective = ier_gen0(n_images=3, gamma=0.5, memory_momentum=0.75, contrast_temperature=1.0)
    memory, z = torch.zeros(3, 64), torch.zeros(32, 64)
    memory[:2, :2] = torch.tensor([[1.0, 0.0], [5.0, 0.0]])
    objective.load_state({"memory": memory})
    z[:2, :2] = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    z[2:, :2] = torch.tensor([[3.0, 0.0], [1.0, 0.0]]).repeat(15, 1)
    return objective, {"classifier": torch.zeros(32, N_CLASSES), "eq_head": torch.zeros(32, 16), "inv_head": z}


def test_a_step_worked_by_hand():
    objective, outputs = tiny()
    result = objective.loss(outputs, {}, torch.tensor([0, 4]), torch.tensor([0, 2]), NO_VIEWS)
    # ln 5, ln 16; image 0: (ln 2 + 15 ln(1 + e)) / 16, image 2: (ln(1 + e) + 15 ln 2) / 16, on average 1.003204.
    expected = {"ce": 1.609438, "equivariance": 2.772589, "invariance": 1.003204}
    assert {name: part.item() for name, part in result.parts.items()} == pytest.approx(expected, abs=5e-6)
    assert result.loss.item() == pytest.approx(1.609438 + 0.5 * (2.772589 + 1.003204), abs=1e-5)
    # 3/4 (1, 0) + 1/4 (0, 2), the negative as it was, 3/4 (0, 0) + 1/4 (1, 0).
    memory = objective.state()["memory"]
    assert memory[:, :2].tolist() == [[0.75, 0.5], [5.0, 0.0], [0.25, 0.0]]
    assert not memory[:, 2:].any()


def test_memory_starts_at_zero_and_is_not_trained():
    objective = ier_gen0()
    assert objective.state()["memory"].shape == (20, 64) and not objective.state()["memory"].any()
    assert not any("memory" in name for name in objective.networks.state_dict())


def test_memory_moves_after_the_loss_by_untransformed_views_only():
    objective, outputs = tiny()
    first = objective.loss(outputs, {}, labels(2), torch.tensor([0, 2]), NO_VIEWS).parts["invariance"]
    other, changed = tiny()
    changed["inv_head"][2:] = 7
    other.loss(changed, {}, labels(2), torch.tensor([0, 2]), NO_VIEWS)
    assert torch.equal(objective.state()["memory"], other.state()["memory"])
    again = objective.loss(outputs, {}, labels(2), torch.tensor([0, 2]), NO_VIEWS).parts["invariance"]
    assert again < first  # Only now the slots have come nearer.


def test_a_row_that_comes_twice_moves_once():
    memory = torch.zeros(3, 2)
    remember(memory, torch.tensor([1, 0, 1]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), 0.5)
    assert memory.tolist() == [[1.5, 2.0], [0.5, 1.0], [0.0, 0.0]]


def test_state_is_a_copy_and_comes_back():
    objective, outputs = tiny()
    before = objective.state()
    kept = before["memory"].clone()
    objective.loss(outputs, {}, labels(2), torch.tensor([0, 2]), NO_VIEWS)
    assert torch.equal(before["memory"], kept)
    resumed = ier_gen0(n_images=3)
    resumed.load_state(objective.state())
    assert torch.equal(resumed.state()["memory"], objective.state()["memory"])


def test_memory_of_another_base_set_is_refused():
    with pytest.raises(InputError, match=r"\(20, 64\); expected \(3, 64\)"):
        ier_gen0(n_images=3).load_state(ier_gen0().state())


@pytest.mark.slow
def test_two_workers_keep_the_memory_of_one(tmp_path: Path):
    torch.multiprocessing.spawn(memory_of_one_of_two, args=(tmp_path,), nprocs=2)
    memory, losses = train_memory(slice(None))
    workers = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for worker_memory, _ in workers:
        assert torch.equal(worker_memory, memory)
    for step, loss in enumerate(losses):
        mean = (workers[0][1][step] + workers[1][1][step]) / 2
        torch.testing.assert_close(mean, loss)


# Losses


def test_gen0_loss_equals_loops():
    objective, rows = ier_gen0(), torch.tensor([3, 0, 7])
    memory, outputs = normal(20, 64, stream="memory"), ier_outputs(3)
    objective.load_state({"memory": memory})
    draws = objective.draw(rows, torch_generator(0, "views"))
    result = objective.loss(outputs, {}, torch.tensor([4, 1, 1]), rows, draws)
    expected = {
        "ce": cross_entropy(outputs["classifier"], [4, 1, 1] * 16),
        "equivariance": cross_entropy(outputs["eq_head"], [transform for transform in range(16) for _ in range(3)]),
        "invariance": invariance(outputs["inv_head"], memory[rows], memory[draws.negatives_K], 0.5),
    }
    assert {name: part.item() for name, part in result.parts.items()} == pytest.approx(expected, rel=1e-5)
    total = expected["ce"] + 0.7 * (expected["equivariance"] + expected["invariance"])
    assert result.loss.item() == pytest.approx(total, rel=1e-5)


def test_distillation_loss_equals_loops():
    objective, gen0, rows = create("ier-distill"), ier_gen0(), torch.tensor([3, 0, 7])
    student, taught = ier_outputs(3), ier_outputs(3, kind="teacher")
    draws = objective.draw(rows, torch_generator(0, "views"))
    result = objective.loss(student, taught, labels(3), rows, draws)
    first = gen0.loss(student, {}, labels(3), rows, draws)
    expected = {
        "kd": divergence(student["classifier"], taught["classifier"], 4.0),
        "kd_equivariant": divergence(student["eq_head"], taught["eq_head"], 4.0),
        "mse_invariant": mean_squared_error(student["inv_head"], taught["inv_head"]),
        "mse_features": mean_squared_error(student["features"], taught["features"]),
    }
    found = {name: part.item() for name, part in result.parts.items()}
    assert found == pytest.approx(expected | {name: part.item() for name, part in first.parts.items()}, rel=1e-5)
    assert result.loss.item() == pytest.approx(0.3 * first.loss.item() + 0.8 * sum(expected.values()), rel=1e-5)
    assert torch.equal(objective.state()["memory"], gen0.state()["memory"])


def test_teacher_sees_all_views_of_the_student():
    taught = teacher()
    objective = create("ier-distill", taught)
    views = objective.views(images(2), draws_of(objective, 2))
    targets, expected = objective.targets(views), taught(views)
    assert set(targets) == {"features", "classifier", "eq_head", "inv_head"}
    for name, target in targets.items():
        torch.testing.assert_close(target, expected[name])


def test_accuracy_counts_untransformed_views_only():
    objective, outputs = ier_gen0(), ier_outputs(2)
    outputs["classifier"] = torch.eye(N_CLASSES)[[3] * 32]
    outputs["classifier"][1] = torch.eye(N_CLASSES)[1]
    result = objective.loss(outputs, {}, torch.tensor([3, 3]), torch.tensor([4, 5]), draws_of(objective, 2))
    assert result.accuracy.item() == 0.5


# Heads


def test_heads_have_the_names_and_shapes_of_the_released_code():
    shapes = {name: tuple(tensor.shape) for name, tensor in ier_gen0().networks.heads.state_dict().items()}
    assert shapes["classifier.weight"] == (5, 6)
    for head, n_outputs in (("eq_head", 16), ("inv_head", 64)):
        weights = [shapes[f"{head}.{layer}.weight"] for layer in (0, 1, 3, 4, 6)]
        assert weights == [(6, 6), (6,), (6, 6), (6,), (n_outputs, 6)]
        assert shapes[f"{head}.1.running_mean"] == shapes[f"{head}.4.running_var"] == (6,)


def test_mlp_equals_its_layers_one_after_the_other():
    head, x = mlp(6, 3, torch_generator(0, "head")), normal(8, 6, stream="x")
    expected = x
    for i in (0, 3):
        expected = expected @ head[i].weight.T + head[i].bias
        expected = (expected - expected.mean(0)) / (expected.var(0, correction=0) + 1e-5).sqrt()
        expected = expected.clamp(min=0)
    torch.testing.assert_close(head(x), expected @ head[6].weight.T + head[6].bias, atol=1e-5, rtol=1e-5)
