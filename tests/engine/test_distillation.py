"""The distillation loss: numbers worked by hand, a naive loop, the direction of the divergence, its gradient."""

import math

import pytest
import torch
import torch.nn.functional as F

from rayfs.engine.distillation import distillation_loss
from rayfs.randomness import torch_generator


def logits(n: int, k: int, stream: str) -> torch.Tensor:
    return 3 * torch.randn(n, k, generator=torch_generator(0, stream), dtype=torch.float64)


def test_two_classes_worked_by_hand():
    # At T = 1 the teacher says (3/4, 1/4) and the student (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812.
    loss = distillation_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]]), temperature=1.0)
    assert loss.item() == pytest.approx(0.130812, abs=1e-6)


def test_the_divergence_is_of_the_teacher_from_the_student():
    # The other way round it would be 1/2 ln(2/3) + 1/2 ln(2) = 0.143841.
    loss = distillation_loss(torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]]), temperature=1.0)
    assert loss.item() == pytest.approx(0.143841, abs=1e-6)


def test_loss_carries_the_squared_temperature():
    # Logits T times as large give the same probabilities at temperature T; what is left is T².
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    assert distillation_loss(4 * student, 4 * teacher, 4.0).item() == pytest.approx(16 * 0.130812, abs=1e-5)


def test_loss_is_a_mean_over_images_and_a_sum_over_classes():
    student, teacher = torch.tensor([[0.0, 0.0]] * 2), torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    assert distillation_loss(student, teacher, 1.0).item() == pytest.approx(0.130812 / 2, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_loss_is_zero_where_student_and_teacher_agree_up_to_a_constant(temperature):
    teacher = logits(4, 5, "teacher")
    assert distillation_loss(teacher + 7, teacher, temperature).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.5, 4.0])
def test_loss_equals_a_loop_over_images_and_classes(temperature):
    student, teacher = logits(6, 3, "student"), logits(6, 3, "teacher")
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(value / temperature) for value in t]
        q = [math.exp(value / temperature) for value in s]
        for p_k, q_k in zip(p, q, strict=True):
            total += p_k / sum(p) * math.log((p_k / sum(p)) / (q_k / sum(q)))
    expected = temperature**2 / 6 * total
    assert distillation_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_equals_finite_differences_and_its_closed_form():
    student, teacher, temperature = logits(3, 4, "student").requires_grad_(), logits(3, 4, "teacher"), 4.0
    assert torch.autograd.gradcheck(lambda s: distillation_loss(s, teacher, temperature), student)
    (gradient,) = torch.autograd.grad(distillation_loss(student, teacher, temperature), student)
    closed_form = temperature / 3 * (F.softmax(student / temperature, 1) - F.softmax(teacher / temperature, 1))
    torch.testing.assert_close(gradient, closed_form.detach())


def test_extreme_logits_give_a_finite_loss():
    loss = distillation_loss(torch.tensor([[0.0, 1000.0]]), torch.tensor([[1000.0, 0.0]]), temperature=1.0)
    assert loss.item() == pytest.approx(1000.0)
