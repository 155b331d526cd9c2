"""The teacher of a distillation: the generation before, of the same architecture, that knows the base classes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import rayfs.training.planning as plan_module
from rayfs.backbones.checkpoints import save_checkpoint
from rayfs.backbones.heads import CosineHead, linear
from rayfs.backbones.registry import create_backbone, n_features
from rayfs.backbones.state import state_hash
from rayfs.errors import InputError
from rayfs.randomness import torch_generator
from rayfs.training.config import PretrainConfig
from rayfs.training.objective import Networks
from rayfs.training.objectives.definition import ANY_NUMBER, TeacherDemand
from rayfs.training.objectives.registry import OBJECTIVES
from rayfs.training.plan import TrainingPlan
from rayfs.training.planning import plan_training
from rayfs.training.run import train
from rayfs.training.teacher import LoadedTeacher, load_staged_teacher, stage_teacher
from rayfs.training.teacher import load_teacher as load_teacher_of
from rayfs.training.teacher_check import check_teacher, teacher_accuracy

TEACHERS = {name: definition.teacher.made_by for name, definition in OBJECTIVES.items() if definition.teacher}

CONFIG = PretrainConfig(epochs=3, batch=20, validation_n_way=3, validation_episodes=3)


@pytest.fixture(autouse=True)
def tiny_benchmark(benchmark, cache_dir, monkeypatch):
    monkeypatch.setattr(plan_module, "open_benchmark", lambda name, data, image_size: benchmark)
    monkeypatch.setenv("RAYFS_CACHE", str(cache_dir))


def plan_of(out: Path, objective: str, **settings) -> TrainingPlan:
    return plan_training(
        benchmark="characters", data=None, image_size=None, backbone="conv4", n_workers=1, out=out, command=["job"],
        config=replace(CONFIG, objective=objective, **settings),
    ).on("cpu")  # fmt: skip


def load_teacher(path: str, objective: str, backbone: str, benchmark, n_classes: int) -> tuple[Networks, str]:
    loaded: LoadedTeacher = load_teacher_of(path, OBJECTIVES[objective], backbone, benchmark, n_classes)
    return loaded.networks, loaded.report


@pytest.fixture(scope="module")
def teachers(benchmark, cache_dir, tmp_path_factory) -> dict[str, Path]:
    """Train one small teacher of each kind, once."""
    folder = tmp_path_factory.mktemp("teachers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "open_benchmark", lambda name, data, image_size: benchmark)
        patch.setenv("RAYFS_CACHE", str(cache_dir))
        paths = {objective: folder / f"{objective}.safetensors" for objective in TEACHERS.values()}
        for objective, path in paths.items():
            train(plan_of(path, objective, epochs=8), torch.device("cpu"), lambda line: None, lambda curve: None)
    return paths


@pytest.mark.parametrize("objective", TEACHERS)
def test_teacher_is_what_its_training_kept(objective, teachers, benchmark, base):
    teacher, report = load_teacher(str(teachers[TEACHERS[objective]]), objective, "conv4", benchmark, 8)
    left_out = "rot_classifier.bias, rot_classifier.weight"
    assert report.endswith(f"; left out {left_out}" if objective == "skd-gen1" else "bias")
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())
    expected = {"classifier", "eq_head", "inv_head"} if objective == "ier-distill" else {"classifier"}
    assert set(teacher.heads) == expected
    if objective != "ier-distill":  # which needs a longer training than a test has time for
        # Twice chance: 8 epochs end at 0.37 to 0.75, as the last bits of the processor's products have it.
        assert teacher_accuracy(teacher, "t", benchmark, base) > 2 / 8


@pytest.mark.parametrize("objective", TEACHERS)
def test_generation_1_trains_from_generation_0(objective, teachers, tmp_path, capsys):
    out, lines = tmp_path / "a.safetensors", []
    settings = {"epochs": 1, "batch": 40, "lr": 0.01}
    plan = plan_of(out, objective, teacher=str(teachers[TEACHERS[objective]]), **settings)
    assert "teacher: 28 tensors of" in capsys.readouterr().out
    train(plan, torch.device("cpu"), lines.append, lambda curve: None)
    assert "kept epoch 1" in lines[-1] and "kd " in lines[0]


def test_teacher_of_the_released_code_is_taken(teachers, benchmark, base, tmp_path):
    """The layout of RFS: options and, under "model", names after `module.`, the classifier called fc."""
    ours, _ = load_teacher(str(teachers["rfs-simple"]), "rfs-distill", "conv4", benchmark, 8)
    renamed = {f"module.{name}": value for name, value in ours.backbone.state_dict().items()}
    renamed |= {f"module.fc.{name}": value for name, value in ours.heads["classifier"].state_dict().items()}
    torch.save({"epoch": 90, "model": renamed}, tmp_path / "released.pth")
    theirs, report = load_teacher(str(tmp_path / "released.pth"), "rfs-distill", "conv4", benchmark, 8)
    assert report == f"28 tensors of {tmp_path / 'released.pth'}, and its fc.weight, fc.bias"
    assert state_hash(theirs) == state_hash(ours)


def test_teacher_of_another_architecture_is_refused(teachers, tmp_path):
    with pytest.raises(
        InputError, match=r"--teacher: checkpoint .* is of the backbone 'conv4', not 'resnet12'"
    ) as refusal:
        plan_training(
            benchmark="characters", data=None, image_size=None, backbone="resnet12", n_workers=1, command=["job"],
            out=tmp_path / "a.safetensors",
            config=replace(CONFIG, objective="rfs-distill", teacher=str(teachers["rfs-simple"])),
        )  # fmt: skip
    assert "--teacher-backbone says which backbone a teacher has, without it resnet12 is taken" in str(refusal.value)


def test_teacher_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--teacher .*nowhere\.safetensors does not exist; give a file, or the name"):
        plan_of(tmp_path / "a.safetensors", "rfs-distill", teacher=str(tmp_path / "nowhere.safetensors"))


def test_teacher_without_the_heads_is_refused(teachers, tmp_path):
    with pytest.raises(
        InputError, match=r"distils from the head eq_head with 64 inputs and 16 outputs; .*classifier\.bias \(8,\)"
    ):
        plan_of(tmp_path / "a.safetensors", "ier-distill", teacher=str(teachers["rfs-simple"]))


def test_teacher_that_knows_the_classes_in_another_order_is_refused(teachers, benchmark, base):
    teacher, _ = load_teacher(str(teachers["rfs-simple"]), "rfs-distill", "conv4", benchmark, 8)
    for tensor in teacher.heads["classifier"].parameters():
        tensor.copy_(tensor.roll(3, 0))
    message = r"--teacher t classifies .*% of 160 base images of characters right, and chance is 12\.5%"
    with pytest.raises(InputError, match=message):
        teacher_accuracy(teacher, "t", benchmark, base)


def test_two_flavours_of_conv4_are_not_taken_for_one_another(teachers, tmp_path):
    """Their tensors have the same names and shapes; the sidecar tells."""
    with pytest.raises(InputError, match=r"is of the backbone 'conv4', not 'conv4-flat'"):
        plan_training(
            benchmark="characters", data=None, image_size=None, backbone="conv4-flat", n_workers=1, command=["job"],
            out=tmp_path / "a.safetensors",
            config=replace(CONFIG, objective="rfs-distill", teacher=str(teachers["rfs-simple"])),
        )  # fmt: skip


def test_staged_teacher_is_the_teacher(teachers, benchmark, base, tmp_path):
    teacher, _ = load_teacher(str(teachers["ier-gen0"]), "ier-distill", "conv4", benchmark, 8)
    path, found = stage_teacher(teacher, "conv4", tmp_path)
    staged = load_staged_teacher(path, OBJECTIVES["ier-distill"], "conv4", benchmark, 8, found)
    assert state_hash(staged) == state_hash(teacher) == found
    with pytest.raises(InputError, match="is not the teacher it was"):
        load_staged_teacher(path, OBJECTIVES["ier-distill"], "conv4", benchmark, 8, "0" * 16)


# Teachers that are not like their students


def untrained(path: Path, backbone: str, n_classes: int, head: str = "linear") -> Networks:
    """Write a network of `backbone` that nothing trained, and return it."""
    module = create_backbone(backbone, 1, 16, torch_generator(3, "teacher"))
    width, generator = n_features(module), torch_generator(3, "head")
    cosine = CosineHead(width, n_classes, 8.0, generator=generator)
    heads = {"linear": linear(width, n_classes, generator), "cosine": cosine}
    networks = Networks(module, {"classifier": heads[head]}).eval()
    save_checkpoint(path, module, {"backbone": backbone}, networks.heads.state_dict())
    return networks


def distilled(out: Path, teacher: Path, backbone: str | None, objective: str = "rfs-distill", **more) -> TrainingPlan:
    return plan_of(out, objective, teacher=str(teacher), teacher_backbone=backbone, **more)


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_student_learns_from_a_teacher_of_another_backbone_and_another_head(head, tmp_path, benchmark, base):
    networks = untrained(tmp_path / "t.safetensors", "conv4-32", 8, head)
    plan = distilled(tmp_path / "a.safetensors", tmp_path / "t.safetensors", "conv4-32", epochs=1, batch=40, lr=0.01)
    assert plan.identity["training"]["teacher_backbone"] == "conv4-32"
    assert plan.teacher_hash == state_hash(networks) and "conv4-32-" in str(plan.teacher)
    staged = load_staged_teacher(plan.teacher, plan.config.definition, "conv4-32", benchmark, 8, plan.teacher_hash)
    images = torch.randn(3, 1, 16, 16, generator=torch_generator(0, "images"))
    with torch.no_grad():
        assert torch.equal(staged(images)["classifier"], networks(images)["classifier"])
    lines: list[str] = []
    train(plan, torch.device("cpu"), lines.append, lambda curve: None)
    assert "kd " in lines[0] and "kept epoch 1" in lines[-1]


def test_backbone_of_the_student_named_as_the_teachers_changes_nothing(teachers, tmp_path):
    plans = [distilled(tmp_path / "a.safetensors", teachers["rfs-simple"], name) for name in (None, "conv4")]
    assert plans[0].identity == plans[1].identity and plans[1].config.teacher_backbone is None


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (
            "skd-gen1",
            "starts from a copy of its teacher, but --teacher-backbone is conv4-32 and --backbone conv4",
        ),
        ("ier-distill", "but --backbone conv4 has 64 and --teacher-backbone conv4-32 has 32; choose two with equally"),
    ],
)
def test_pairs_that_an_objective_cannot_compare_are_refused(objective, message, tmp_path):
    untrained(tmp_path / "t.safetensors", "conv4-32", 8)
    with pytest.raises(InputError, match=message):
        distilled(tmp_path / "a.safetensors", tmp_path / "t.safetensors", "conv4-32", objective)


def test_backbone_of_a_teacher_without_a_teacher_is_refused(tmp_path):
    with pytest.raises(InputError, match="--teacher-backbone is conv4 but --objective rfs-simple has no such setting"):
        plan_of(tmp_path / "a.safetensors", "rfs-simple", teacher_backbone="conv4")


def test_head_over_other_classes_is_refused_where_the_base_classes_are_demanded(tmp_path):
    untrained(tmp_path / "t.safetensors", "conv4", 5)
    message = r"the head classifier with 64 inputs and 8 outputs; the file's heads: classifier\.bias \(5,\), classifier"
    with pytest.raises(InputError, match=message):
        distilled(tmp_path / "a.safetensors", tmp_path / "t.safetensors", None)


@pytest.mark.parametrize("heads", [{}, {"classifier": ANY_NUMBER}], ids=["features", "any classes"])
def test_objective_may_take_a_teacher_of_other_classes(heads, tmp_path, benchmark, base):
    demand = TeacherDemand(made_by="rfs-simple", heads=heads)
    definition = replace(OBJECTIVES["rfs-distill"], teacher=demand)
    networks = untrained(tmp_path / "t.safetensors", "conv4", 5)
    loaded = load_teacher_of(str(tmp_path / "t.safetensors"), definition, "conv4", benchmark, 8)
    assert set(loaded.networks.heads) == set(heads)
    assert ("left out classifier.bias" in loaded.report) == (not heads)
    said = check_teacher(loaded.networks, demand.knows_base_classes, "t", benchmark, base)
    assert said == "the teacher's features of 160 base images are finite and differ"
    images = torch.randn(3, 1, 16, 16, generator=torch_generator(0, "images"))
    assert torch.equal(loaded.networks(images)["features"], networks(images)["features"].detach())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "features of 160 of 160 base images are not finite"),
        (0.0, "the same features for all of 160"),
    ],
)
def test_features_that_say_nothing_are_refused(value, message, tmp_path, benchmark, base):
    networks = untrained(tmp_path / "t.safetensors", "conv4", 5)
    for parameter in networks.backbone.parameters():
        parameter.data.fill_(value)
    with pytest.raises(InputError, match=message):
        check_teacher(networks, False, "t", benchmark, base)
