"""The embeddings of the package: found by what they fit, or by name."""

import json
from pathlib import Path

import pytest

import rayfs.backbones.packaged as packaged
from rayfs.backbones.checkpoints import load_checkpoint, save_checkpoint
from rayfs.backbones.packaged import best_packaged, find_checkpoint, packaged_checkpoints
from rayfs.backbones.registry import create_backbone
from rayfs.randomness import torch_generator

MAX_BYTES = 5 << 19


@pytest.mark.parametrize("checkpoint", packaged_checkpoints(), ids=lambda checkpoint: checkpoint.name)
def test_every_packaged_embedding_loads_and_says_how_it_was_made(checkpoint):
    assert checkpoint.path.stat().st_size < MAX_BYTES
    metadata = checkpoint.metadata
    backbone = create_backbone(
        metadata["backbone"], metadata["channels"], metadata["image_size"], torch_generator(0, "other weights")
    )
    report = load_checkpoint(checkpoint.path, backbone)  # compares the hash of the sidecar
    assert report.metadata == metadata
    assert metadata["command"].startswith("python jobs/pretrain.py ")
    assert 0.2 < checkpoint.validation_accuracy < 1
    assert "/" not in metadata["command"].replace("jobs/", "").replace("runs/", ""), "no path of the machine it is from"


def test_best_on_validation_classes_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    backbone = create_backbone("conv4", 1, 16, torch_generator(0, "weights"))
    for name, accuracy, size, more in (
        ("a", 0.5, 16, {}), ("b", 0.7, 16, {}), ("c", 0.9, 32, {}), ("d", 0.95, 16, {"left_out": ["a class"]}),
    ):  # fmt: skip
        metadata = {"backbone": "conv4", "benchmark": "x", "channels": 1, "image_size": size, **more}
        curve = [{"validation_accuracy": 0.1}, {"validation_accuracy": accuracy}]
        save_checkpoint(tmp_path / f"{name}.safetensors", backbone, {**metadata, "curve": curve})
    assert best_packaged("conv4", "x", 1, 16) == tmp_path / "b.safetensors"
    assert best_packaged("conv4", "x", 3, 16) is None
    assert best_packaged("resnet12", "x", 1, 16) is None


def test_name_of_a_packaged_embedding_is_a_checkpoint(tmp_path, monkeypatch):
    assert find_checkpoint("conv4_omniglot") == packaged.FOLDER / "conv4_omniglot.safetensors"
    assert find_checkpoint("conv4_nothing") == Path("conv4_nothing")
    assert find_checkpoint(tmp_path / "conv4_omniglot") == tmp_path / "conv4_omniglot"
    monkeypatch.chdir(tmp_path)
    Path("conv4_omniglot").write_text("in the way")
    assert find_checkpoint("conv4_omniglot") == Path("conv4_omniglot")


def test_sidecars_are_json_without_anything_but_figures():
    for checkpoint in packaged_checkpoints():
        assert set(json.loads(checkpoint.path.with_suffix(".json").read_text())) == {
            "metadata", "n_tensors", "sha256", "state_hash",
        }  # fmt: skip
