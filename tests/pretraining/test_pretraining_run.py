"""A whole run: the best epoch's checkpoint and its sidecar, the test classes untouched, wrong input refused early."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rayfs.pretraining.run as run
from rayfs.backbones.checkpoints import load_checkpoint
from rayfs.backbones.registry import create_backbone
from rayfs.backbones.state import state_hash
from rayfs.errors import InputError
from rayfs.pretraining.config import PretrainConfig
from rayfs.pretraining.train import Trainer
from rayfs.randomness import torch_generator

CONFIG = PretrainConfig(epochs=2, batch=40, lr=0.02, validation_n_way=3, validation_episodes=3)


@pytest.fixture(autouse=True)
def tiny_benchmark(benchmark, cache_dir, monkeypatch):
    monkeypatch.setattr(run, "open_benchmark", lambda name, data, image_size: benchmark)
    monkeypatch.setattr(run, "configure_process", lambda n_threads: None)
    monkeypatch.setenv("RAYFS_CACHE", str(cache_dir))


def pretrain(out: Path, **changes: Any) -> None:
    given = {
        "benchmark": "characters", "data": None, "image_size": None, "backbone": "conv4", "device": "cpu",
        "threads": 0, "config": CONFIG, "command": ["jobs/pretrain.py", "--out", "a b.safetensors"],
    }  # fmt: skip
    run.run_pretraining(out=out, **{**given, **changes})


def sidecar(out: Path) -> dict[str, Any]:
    return json.loads(out.with_suffix(".json").read_text())["metadata"]


def test_run_lowers_the_loss_and_says_so(tmp_path, capsys):
    """Test classes are never opened: the benchmark of these tests raises where they are."""
    pretrain(tmp_path / "new" / "a.safetensors")
    printed = capsys.readouterr().out
    assert "160 base images of 8 classes, 6 validation classes, cpu" in printed
    losses = [float(line.split("loss ")[1].split(" |")[0]) for line in printed.splitlines() if "| loss " in line]
    assert len(losses) == 2 and losses[1] < losses[0]


def test_same_command_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        pretrain(tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_checkpoint_loads_back_and_its_sidecar_tells_how_it_was_made(tmp_path):
    out = tmp_path / "a.safetensors"
    pretrain(out)
    report = load_checkpoint(out, create_backbone("conv4", 1, 16, torch_generator(9, "other weights")))
    assert not report.ignored and not report.filled
    metadata = report.metadata
    assert metadata == sidecar(out)
    assert (metadata["backbone"], metadata["benchmark"], metadata["channels"], metadata["image_size"]) == (
        "conv4", "characters", 1, 16,
    )  # fmt: skip
    assert metadata["command"] == "python jobs/pretrain.py --out 'a b.safetensors'"
    assert metadata["training"]["epochs"] == 2 and metadata["training"]["objective"] == "cross-entropy"
    assert metadata["versions"]["torch"] == torch.__version__
    kept = metadata["curve"][-1]
    assert 0 <= kept["validation_accuracy"] <= 1 and kept["validation_half_width"] >= 0


@pytest.mark.parametrize(("accuracies", "best"), [([0.5, 0.8, 0.8], 2), ([0.9, 0.8, 0.9], 1), ([0.1, 0.2, 0.3], 3)])
def test_best_epoch_on_validation_classes_is_kept_and_the_earlier_of_equals(tmp_path, monkeypatch, accuracies, best):
    hashes = []

    def scripted(backbone, *_):
        assert not backbone.training
        hashes.append(state_hash(backbone))
        return np.full(3, accuracies[len(hashes) - 1])

    monkeypatch.setattr(run, "validate", scripted)
    out = tmp_path / "a.safetensors"
    pretrain(out, config=PretrainConfig(epochs=3, batch=160, validation_n_way=3, validation_episodes=3))
    kept = create_backbone("conv4", 1, 16, torch_generator(9, "other weights"))
    load_checkpoint(out, kept)
    assert len(set(hashes)) == 3
    assert state_hash(kept) == hashes[best - 1]
    assert [report["epoch"] for report in sidecar(out)["curve"]] == list(range(1, best + 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "tpu"}, "--device is 'tpu'; expected auto, cpu or cuda"),
        ({"device": "cuda"}, "torch finds no GPU here; use --device cpu"),
        ({"threads": -1}, "--threads is -1; expected 0"),
        ({"backbone": "vgg"}, "unknown backbone 'vgg'"),
        ({"config": PretrainConfig(validation_n_way=7)}, "has 6 classes but the protocol asks for 7-way"),
        ({"config": PretrainConfig(validation_n_shot=20)}, "has 20 images but an episode takes 20 support"),
    ],
)
def test_wrong_input_is_refused_before_the_first_step(tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refuse_to_train(monkeypatch)
    with pytest.raises(InputError, match=message):
        pretrain(tmp_path / "a.safetensors", **changes)
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_of_another_ending_is_refused_before_the_first_step(tmp_path, monkeypatch):
    refuse_to_train(monkeypatch)
    with pytest.raises(InputError, match=r"--out is '.*a\.pth'; expected a file name that ends in \.safetensors"):
        pretrain(tmp_path / "a.pth")


def test_place_that_cannot_be_written_is_refused_before_the_first_step(tmp_path, monkeypatch):
    refuse_to_train(monkeypatch)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot write checkpoint"):
        pretrain(tmp_path / "file" / "a.safetensors")


@pytest.mark.parametrize(
    ("name", "gpu", "expected"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_device_names(monkeypatch, name, gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert run.pick_device(name) == torch.device(expected)


def refuse_to_train(monkeypatch: pytest.MonkeyPatch) -> None:
    def train_epoch(*_):
        raise AssertionError("a step was taken")

    monkeypatch.setattr(Trainer, "train_epoch", train_epoch)
