"""The teacher of a distillation: the generation before, of the same architecture, that knows the base classes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import rayfs.pretraining.run as run
from rayfs.backbones.registry import create_backbone
from rayfs.backbones.state import state_hash
from rayfs.errors import InputError
from rayfs.pretraining.config import PretrainConfig
from rayfs.pretraining.recipes import TEACHERS
from rayfs.pretraining.run import plan_training, train
from rayfs.pretraining.teacher import load_teacher, teacher_accuracy
from rayfs.randomness import torch_generator

CONFIG = PretrainConfig(epochs=3, batch=20, validation_n_way=3, validation_episodes=3)


@pytest.fixture(autouse=True)
def tiny_benchmark(benchmark, cache_dir, monkeypatch):
    monkeypatch.setattr(run, "open_benchmark", lambda name, data, image_size: benchmark)
    monkeypatch.setenv("RAYFS_CACHE", str(cache_dir))


def plan_of(out: Path, objective: str, **settings) -> run.TrainingPlan:
    return plan_training(
        benchmark="characters", data=None, image_size=None, backbone="conv4", n_workers=1, out=out, command=["job"],
        config=replace(CONFIG, objective=objective, **settings),
    ).on("cpu")  # fmt: skip


@pytest.fixture(scope="module")
def teachers(benchmark, cache_dir, tmp_path_factory) -> dict[str, Path]:
    """Train one small teacher of each kind, once."""
    folder = tmp_path_factory.mktemp("teachers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "open_benchmark", lambda name, data, image_size: benchmark)
        patch.setenv("RAYFS_CACHE", str(cache_dir))
        paths = {objective: folder / f"{objective}.safetensors" for objective in TEACHERS.values()}
        for objective, path in paths.items():
            train(plan_of(path, objective, epochs=8), torch.device("cpu"), lambda line: None, lambda curve: None)
    return paths


@pytest.mark.parametrize("objective", TEACHERS)
def test_teacher_is_what_its_training_kept(objective, teachers, benchmark, base):
    teacher = load_teacher(str(teachers[TEACHERS[objective]]), objective, "conv4", benchmark, base)
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())
    expected = {"classifier", "eq_head", "inv_head"} if objective == "ier-distill" else {"classifier"}
    assert set(teacher.heads) == expected
    assert teacher_accuracy(teacher, "t", benchmark, base) > 3 / 8


@pytest.mark.parametrize("objective", TEACHERS)
def test_generation_1_trains_from_generation_0(objective, teachers, tmp_path, capsys):
    out, lines = tmp_path / "a.safetensors", []
    settings = {"epochs": 1, "batch": 40, "lr": 0.01}
    plan = plan_of(out, objective, teacher=str(teachers[TEACHERS[objective]]), **settings)
    assert "of base images right" in capsys.readouterr().out
    train(plan, torch.device("cpu"), lines.append, lambda curve: None)
    assert "kept epoch 1" in lines[-1] and "kd " in lines[0]


def test_teacher_of_the_released_code_is_taken(teachers, benchmark, base, tmp_path):
    """The layout of RFS: options and, under "model", names after `module.`, the classifier called fc."""
    ours = load_teacher(str(teachers["rfs-simple"]), "rfs-distill", "conv4", benchmark, base)
    renamed = {f"module.{name}": value for name, value in ours.backbone.state_dict().items()}
    renamed |= {f"module.fc.{name}": value for name, value in ours.heads["classifier"].state_dict().items()}
    torch.save({"epoch": 90, "model": renamed}, tmp_path / "released.pth")
    theirs = load_teacher(str(tmp_path / "released.pth"), "rfs-distill", "conv4", benchmark, base)
    assert state_hash(theirs) == state_hash(ours)


def test_teacher_of_another_architecture_is_refused(teachers, tmp_path):
    with pytest.raises(InputError, match=r"--teacher: checkpoint .* does not fit the backbone ResNet12") as refusal:
        plan_training(
            benchmark="characters", data=None, image_size=None, backbone="resnet12", n_workers=1, command=["job"],
            out=tmp_path / "a.safetensors",
            config=replace(CONFIG, objective="rfs-distill", teacher=str(teachers["rfs-simple"])),
        )  # fmt: skip
    assert "a teacher has the --backbone of its student (resnet12)" in str(refusal.value)


def test_teacher_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--teacher: checkpoint .*nowhere\.safetensors does not exist"):
        plan_of(tmp_path / "a.safetensors", "rfs-distill", teacher=str(tmp_path / "nowhere.safetensors"))


def test_teacher_without_the_heads_is_refused(teachers, tmp_path):
    with pytest.raises(
        InputError, match=r"distils from the head eq_head\.0\.weight \(64, 64\).*classifier\.bias \(8,\)"
    ):
        plan_of(tmp_path / "a.safetensors", "ier-distill", teacher=str(teachers["rfs-simple"]))


def test_teacher_that_knows_other_classes_is_refused(teachers, benchmark, base, tmp_path):
    teacher = load_teacher(str(teachers["rfs-simple"]), "rfs-distill", "conv4", benchmark, base)
    backbone = create_backbone("conv4", 1, 16, torch_generator(0, "weights"))
    state = backbone.state_dict() | {"classifier.weight": teacher.heads["classifier"].weight.roll(3, 0)}
    state |= teacher.backbone.state_dict() | {"classifier.bias": teacher.heads["classifier"].bias.roll(3, 0)}
    torch.save(state, tmp_path / "rolled.pth")
    with pytest.raises(
        InputError, match=r"classifies .*% of 160 base images of characters right, and chance is 12\.5%"
    ):
        plan_of(tmp_path / "a.safetensors", "rfs-distill", teacher=str(tmp_path / "rolled.pth"))
