"""SKD: turns by hand, both generations against loops, and a student that starts as a copy of its teacher."""

import math

import pytest
import torch
import torch.nn.functional as F
from loss_oracle import binary_cross_entropy, cross_entropy, divergence, mean_distance
from small_objectives import N_CLASSES, WithDropout, backbone, create, images, labels, normal, photos, teacher

from rayfs.backbones.heads import linear
from rayfs.backbones.regularisation import Dropout, set_generator
from rayfs.randomness import torch_generator
from rayfs.training.objective import Networks
from rayfs.training.objectives.cross_entropy.loss import augmented
from rayfs.training.objectives.skd_gen0.loss import rotation_loss, turned
from rayfs.training.objectives.skd_gen1.loss import SkdGen1, rotation_distance


def seen(objective):
    """Return the views of 3 images and the augmented images that they are turns of."""
    draws = objective.draw(torch.arange(3), torch_generator(0, "views"))
    return objective.views(images(3), draws), augmented(images(3), photos(), draws)


# Generation 0


def test_turns_of_a_small_image_by_hand():
    out = turned(torch.tensor([[[[1, 2], [3, 4]]]]), range(4))
    assert out[:, 0].tolist() == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]


def test_a_quarter_turn_is_a_transposition_and_then_a_flip():
    x = normal(2, 3, 5, 5, stream="x")
    assert torch.equal(turned(x, [1]), x.transpose(2, 3).flip(2))


def test_gen0_sees_four_turns_of_one_view_turn_by_turn():
    views, upright = seen(create("skd-gen0"))
    assert views.shape == (12, 3, 16, 16)
    for turn in range(4):
        for i in range(3):
            assert torch.equal(views[3 * turn + i], torch.rot90(upright[i], turn, (1, 2)))


def test_rotation_head_reads_the_class_logits():
    networks = create("skd-gen0").networks.eval()
    outputs = networks(seen(create("skd-gen0"))[0])
    head = networks.heads["rot_classifier"]
    assert head.weight.shape == (4, N_CLASSES)
    assert torch.equal(outputs["rot_classifier"], F.linear(outputs["classifier"], head.weight, head.bias))


def test_rotation_loss_worked_by_hand():
    # One image; only the upright view is recognised, with probability 3/4: (15 ln 2 + ln(4/3)) / 16 = 0.667806.
    logits = torch.zeros(4, 4)
    logits[0, 0] = math.log(3.0)
    assert rotation_loss(logits, 1).item() == pytest.approx(0.667806, abs=1e-6)


def test_rotation_loss_expects_turn_by_turn():
    # 0, 0, 90, 90, 180, 180, 270, 270 is right; 0, 90, 180, 270, 0, ... is not.
    confident = 40 * torch.eye(4) - 20
    assert rotation_loss(confident.repeat_interleave(2, 0), 2).item() < 1e-6
    assert rotation_loss(confident.repeat(2, 1), 2).item() > 1


def test_gen0_loss_equals_loops():
    outputs = {
        "classifier": normal(12, N_CLASSES, stream="classes").double(),
        "rot_classifier": normal(12, 4, stream="turns").double(),
    }
    chosen = torch.tensor([4, 0, 2])
    ce = cross_entropy(outputs["classifier"], [4, 0, 2] * 4)
    rotation = binary_cross_entropy(outputs["rot_classifier"], [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    result = create("skd-gen0").loss(outputs, {}, chosen, torch.arange(3), None)
    assert result.parts["ce"].item() == pytest.approx(ce, rel=1e-12)
    assert result.parts["rotation"].item() == pytest.approx(rotation, rel=1e-12)
    assert result.loss.item() == pytest.approx(ce + 2 * rotation, rel=1e-12)


# Generation 1


def test_gen1_sees_each_view_upright_and_turned_once():
    views, upright = seen(create("skd-gen1"))
    assert torch.equal(views, torch.cat([upright, torch.rot90(upright, 1, (2, 3))]))


def test_gen1_teacher_sees_upright_views_only():
    taught, batches = teacher(), []
    objective = create("skd-gen1", taught)
    taught.backbone.register_forward_pre_hook(lambda module, inputs: batches.append(inputs[0]))
    views, upright = seen(objective)
    targets = objective.targets(views)
    assert [torch.equal(batch, upright) for batch in batches] == [True]
    assert {name: target.shape for name, target in targets.items()} == {"classifier": (3, N_CLASSES)}


def test_rotation_distance_worked_by_hand():
    # 3-4-5, and no distance at all: (5 + 0) / 2.
    upright, other = torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert rotation_distance(upright, other).item() == pytest.approx(2.5)


def test_rotation_distance_of_equal_outputs_has_gradient_zero():
    upright, other = torch.ones(2, 2, requires_grad=True), torch.tensor([[1.0, 1.0], [4.0, 5.0]], requires_grad=True)
    rotation_distance(upright, other).backward()
    assert upright.grad is not None and other.grad is not None
    torch.testing.assert_close(other.grad, torch.tensor([[0.0, 0.0], [0.3, 0.4]]))
    torch.testing.assert_close(upright.grad, -other.grad)


def test_gen1_gradient_is_finite_for_an_image_that_looks_the_same_turned():
    objective = create("skd-gen1")
    blank = torch.full((2, 16, 16, 3), 90, dtype=torch.uint8)
    views = objective.views(blank, objective.draw(torch.arange(2), torch_generator(0, "views")))
    views = views[:, :, 4:12, 4:12]  # Without the rim that the padded crop may have brought in.
    outputs = objective.networks(views)
    result = objective.loss(outputs, objective.targets(views), labels(2), torch.arange(2), None)
    assert result.parts["rotation"].item() == 0
    result.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.networks.parameters())


def test_gen1_loss_equals_loops():
    student = 3 * normal(8, N_CLASSES, stream="student").double()
    taught = 3 * normal(4, N_CLASSES, stream="teacher").double()
    kd, rotation = divergence(student[:4], taught, 2.0), mean_distance(student[4:], student[:4])
    result = create("skd-gen1").loss({"classifier": student}, {"classifier": taught}, labels(4), labels(4), None)
    assert result.parts["kd"].item() == pytest.approx(kd, rel=1e-12)
    assert result.parts["rotation"].item() == pytest.approx(rotation, rel=1e-12)
    assert result.loss.item() == pytest.approx(kd + 0.1 * rotation, rel=1e-12)


def test_gen1_student_starts_as_a_copy_that_shares_nothing():
    taught = teacher()
    student = create("skd-gen1", taught).networks
    originals = taught.state_dict()
    copies = student.state_dict()
    assert set(copies) == {name for name in originals if name.startswith(("backbone", "heads.classifier"))}
    for name, tensor in copies.items():
        assert torch.equal(tensor, originals[name]), name
        assert tensor.data_ptr() != originals[name].data_ptr(), name
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_gen1_student_copies_no_dropout_generator():
    module = WithDropout(Dropout(0.5))
    set_generator(module, torch_generator(0, "dropout"))
    taught = Networks(module, {"classifier": linear(3, 2, torch_generator(0, "head"))})
    assert SkdGen1(taught, photos(), 0.1, 2.0).networks.backbone.dropout.generator is None


def test_gen1_student_learns_while_its_teacher_does_not():
    taught = teacher()
    before = {name: tensor.clone() for name, tensor in taught.state_dict().items()}
    objective = create("skd-gen1", taught)
    networks = objective.networks.train()
    optimizer = torch.optim.SGD(networks.parameters(), lr=0.1)
    views, _ = seen(objective)
    result = objective.loss(networks(views), objective.targets(views), labels(3), labels(3), None)
    result.loss.backward()
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in taught.state_dict().items())
    assert not torch.equal(networks.heads["classifier"].weight, taught.heads["classifier"].weight)
    assert not torch.equal(
        networks.state_dict()["backbone.layer1.1.running_mean"], before["backbone.layer1.1.running_mean"]
    )


def test_backbone_of_gen0_is_the_one_given():
    assert torch.equal(create("skd-gen0").networks.backbone.layer1[0].weight, backbone().layer1[0].weight)
