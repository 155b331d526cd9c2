"""The teacher of a distillation: the generation before, of the same architecture, that knows the base classes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import rayfs.training.plan as plan_module
from rayfs.backbones.state import state_hash
from rayfs.errors import InputError
from rayfs.training.config import PretrainConfig
from rayfs.training.objective import Networks
from rayfs.training.objectives.registry import OBJECTIVES
from rayfs.training.plan import TrainingPlan, plan_training
from rayfs.training.run import train
from rayfs.training.teacher import LoadedTeacher, load_staged_teacher, stage_teacher
from rayfs.training.teacher import load_teacher as load_teacher_of
from rayfs.training.teacher_check import teacher_accuracy

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
