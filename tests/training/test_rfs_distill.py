"""Born-again distillation: by hand, against a loop, and what the teacher sees."""

import math

import pytest
import torch
from loss_oracle import cross_entropy, divergence
from small_objectives import DISTILLATION, N_CLASSES, create, images, labels, normal, teacher

from rayfs.randomness import torch_generator


def outcome(student: torch.Tensor, taught: torch.Tensor, chosen: torch.Tensor):
    return create("rfs-distill").loss({"classifier": student}, {"classifier": taught}, chosen, chosen, None)


def test_loss_worked_by_hand():
    # The student knows nothing, CE = ln 2. At T = 4 the teacher says (3/4, 1/4):
    # KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812, times 16. The sum is 0.3 ln 2 + 0.8 · 2.092990 = 1.882336.
    result = outcome(torch.zeros(1, 2), torch.tensor([[4 * math.log(3.0), 0.0]]), torch.tensor([0]))
    assert result.parts["ce"].item() == pytest.approx(0.693147, abs=1e-6)
    assert result.parts["kd"].item() == pytest.approx(2.092990, abs=2e-5)
    assert result.loss.item() == pytest.approx(1.882336, abs=2e-5)


def test_loss_equals_a_loop_over_images_and_classes():
    student, taught = (3 * normal(6, N_CLASSES, stream=who).double() for who in ("student", "teacher"))
    ce, kd = cross_entropy(student, labels(6).tolist()), divergence(student, taught, DISTILLATION["temperature"])
    result = outcome(student, taught, labels(6))
    assert result.parts["ce"].item() == pytest.approx(ce, rel=1e-12)
    assert result.parts["kd"].item() == pytest.approx(kd, rel=1e-12)
    assert result.loss.item() == pytest.approx(0.3 * ce + 0.8 * kd, rel=1e-12)


def test_accuracy_is_the_students():
    right, wrong = torch.eye(3), torch.eye(3).flip(0)
    assert outcome(right, wrong, torch.arange(3)).accuracy.item() == 1


def test_teacher_judges_the_views_that_the_student_sees():
    taught = teacher()
    objective = create("rfs-distill", taught)
    views = objective.views(images(4), objective.draw(torch.arange(4), torch_generator(0, "views")))
    targets = objective.targets(views)
    assert list(targets) == ["classifier"]
    torch.testing.assert_close(targets["classifier"], taught.heads["classifier"](taught.backbone(views)))


def test_student_is_not_the_teacher():
    taught = teacher()
    objective = create("rfs-distill", taught)
    student = objective.networks.heads["classifier"]
    assert not torch.equal(student.weight, taught.heads["classifier"].weight)
    assert list(objective.networks.heads) == ["classifier"]
