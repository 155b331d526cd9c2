"""Checkpoints: round trips, the literature's layouts, and the message of every failure."""

import argparse
import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from rayfs.backbones import Conv4, ResNet12, load_checkpoint, save_checkpoint, state_hash
from rayfs.errors import InputError
from rayfs.randomness import torch_generator


def resnet(seed: int = 0, in_channels: int = 3) -> ResNet12:
    return ResNet12(in_channels, widths=(4, 6, 8, 10), generator=torch_generator(seed, "weights"))


def conv4(seed: int = 0) -> Conv4:
    return Conv4(width=4, generator=torch_generator(seed, "weights"))


def same_state(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Saving


def test_round_trip_is_bit_exact(tmp_path):
    saved, loaded = resnet(seed=1), resnet(seed=2)
    saved.layer2[0].bn1.running_mean.normal_(generator=torch_generator(0, "mean"))
    saved.layer2[0].bn1.num_batches_tracked.fill_(307)
    save_checkpoint(tmp_path / "a.safetensors", saved, {"benchmark": "cifar-fs", "epochs": 90})
    report = load_checkpoint(tmp_path / "a.safetensors", loaded)
    assert same_state(saved, loaded)
    assert (report.n_tensors, report.ignored, report.filled, report.cast) == (96, (), (), ())
    assert report.metadata == {"benchmark": "cifar-fs", "epochs": 90}
    assert report.describe() == f"loaded 96 tensors from {tmp_path / 'a.safetensors'}"


def test_channels_last_weights_round_trip_and_keep_the_layout_of_the_target(tmp_path):
    saved, loaded = (resnet(seed).to(memory_format=torch.channels_last) for seed in (1, 2))
    save_checkpoint(tmp_path / "a.safetensors", saved, {})
    load_checkpoint(tmp_path / "a.safetensors", loaded)
    assert same_state(saved, loaded)
    assert loaded.layer2[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_sidecar_describes_the_file_and_nothing_else_is_left(tmp_path):
    save_checkpoint(tmp_path / "new" / "a.safetensors", conv4(), {"seed": 0})
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.json", "a.safetensors"]
    sidecar = json.loads((tmp_path / "new" / "a.json").read_text())
    assert sidecar["metadata"] == {"seed": 0}
    assert sidecar["n_tensors"] == 28
    assert sidecar["state_hash"] == state_hash(conv4())
    assert len(sidecar["sha256"]) == 64


def test_saving_twice_replaces_both_files(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", conv4(1), {"run": 1})
    save_checkpoint(tmp_path / "a.safetensors", conv4(2), {"run": 2})
    loaded = conv4(3)
    assert load_checkpoint(tmp_path / "a.safetensors", loaded).metadata == {"run": 2}
    assert same_state(loaded, conv4(2))


def test_sidecar_that_names_another_backbone_is_refused(tmp_path):
    """conv4 and conv4-flat have the same tensors, so shapes alone would not tell."""
    save_checkpoint(tmp_path / "a.safetensors", conv4(1), {"backbone": "conv4-flat"})
    with pytest.raises(InputError, match=r"is of the backbone 'conv4-flat', not 'conv4'; pass --backbone conv4-flat"):
        load_checkpoint(tmp_path / "a.safetensors", conv4(2), "conv4")
    assert load_checkpoint(tmp_path / "a.safetensors", conv4(2), "conv4-flat").n_tensors == 28
    assert load_checkpoint(tmp_path / "a.safetensors", conv4(2)).n_tensors == 28


def test_failed_write_leaves_the_old_weights_and_no_temporary_file(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "a.safetensors", conv4(1), {})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        InputError, match=r"cannot write checkpoint .*a.safetensors: No space left on device; free space"
    ):
        save_checkpoint(tmp_path / "a.safetensors", conv4(2), {})
    loaded = conv4(3)
    load_checkpoint(tmp_path / "a.safetensors", loaded)
    assert same_state(loaded, conv4(1))
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_only_safetensors_are_written(tmp_path):
    with pytest.raises(InputError, match=r"saved as .safetensors, got .*a.pth"):
        save_checkpoint(tmp_path / "a.pth", conv4(), {})


def test_metadata_that_is_not_json_writes_nothing(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_checkpoint(tmp_path / "a.safetensors", conv4(), {"path": Path("x")})
    assert list(tmp_path.iterdir()) == []


# The layouts of the literature


@pytest.mark.parametrize("key", [None, "model", "state_dict", "params"])
@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "backbone.", "module.encoder."])
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_pickled_layouts_load(tmp_path, key, prefix, suffix):
    saved, loaded = conv4(1), conv4(2)
    state = {prefix + name: tensor for name, tensor in saved.state_dict().items()}
    torch.save({"epoch": 90, key: state} if key else state, tmp_path / f"a{suffix}")
    assert load_checkpoint(tmp_path / f"a{suffix}", loaded).n_tensors == 28
    assert same_state(saved, loaded)


@pytest.mark.parametrize("zipped", [True, False])
def test_options_beside_the_weights_as_the_released_code_saves_them_load(tmp_path, zipped):
    content = {"opt": argparse.Namespace(model="resnet12", lr=0.05), "model": resnet(1).state_dict()}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    loaded = resnet(2)
    load_checkpoint(tmp_path / "a.pth", loaded)
    assert same_state(loaded, resnet(1))


@pytest.mark.parametrize(
    "head", ["fc", "classifier", "head", "linear", "rot_classifier", "eq_head.0", "module.classifier"]
)
def test_classifier_head_is_ignored_by_name(tmp_path, head):
    prefix = "module." if head.startswith("module.") else ""
    state = {prefix + name: tensor for name, tensor in resnet(1).state_dict().items()}
    torch.save(state | {f"{head}.weight": torch.ones(64, 10), f"{head}.bias": torch.ones(64)}, tmp_path / "a.pth")
    loaded = resnet(2)
    report = load_checkpoint(tmp_path / "a.pth", loaded)
    assert same_state(loaded, resnet(1))
    assert report.ignored == (f"{head}.weight", f"{head}.bias")
    assert f"ignored 2 of a classifier head: {head}.weight, {head}.bias" in report.describe()
    assert report.n_tensors == 96


def test_head_outside_the_wrapper_is_ignored_and_the_prefix_still_taken_off(tmp_path):
    state = {f"encoder.{name}": tensor for name, tensor in conv4(1).state_dict().items()}
    torch.save(state | {"fc.weight": torch.ones(5, 4)}, tmp_path / "a.pth")
    assert load_checkpoint(tmp_path / "a.pth", conv4(2)).ignored == ("fc.weight",)


def test_prefix_that_only_some_names_carry_is_left_on(tmp_path):
    state = conv4().state_dict()
    state["module.layer1.0.weight"] = state.pop("layer1.0.weight")
    torch.save(state, tmp_path / "a.pth")
    message = r"1 missing: layer1.0.weight \(4, 3, 3, 3\) float32; 1 unexpected: module.layer1.0.weight"
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "a.pth", conv4())


def test_absent_batch_counters_are_set_to_zero_and_reported(tmp_path):
    state = {k: v for k, v in conv4(1).state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "a.pth")
    loaded = conv4(2)
    loaded.layer1[1].num_batches_tracked.fill_(9)
    report = load_checkpoint(tmp_path / "a.pth", loaded)
    assert same_state(loaded, conv4(1))
    assert report.n_tensors == 24
    assert report.filled == tuple(f"layer{i}.1.num_batches_tracked" for i in (1, 2, 3, 4))
    assert "set 4 absent batch counters to 0: layer1.1.num_batches_tracked" in report.describe()


def test_half_precision_weights_are_converted_and_reported(tmp_path):
    state = conv4(1).state_dict()
    state["layer1.0.weight"] = state["layer1.0.weight"].half()
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    loaded = conv4(2)
    report = load_checkpoint(tmp_path / "a.safetensors", loaded)
    assert report.cast == ("layer1.0.weight",)
    assert "converted the type of 1: layer1.0.weight" in report.describe()
    assert loaded.layer1[0].weight.dtype == torch.float32
    assert report.metadata == {}


# Failures


def test_another_backbone_is_refused_naming_tensors_and_counts(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", conv4(), {})
    with pytest.raises(InputError) as failure:
        load_checkpoint(tmp_path / "a.safetensors", resnet())
    message = str(failure.value)
    assert "does not fit the backbone ResNet12 (96 tensors)" in message
    assert "80 missing: layer1.0.conv1.weight (4, 3, 3, 3) float32, " in message
    assert " and 72 more; 28 unexpected: layer1.0.bias (4,) float32, layer1.0.weight (4, 3, 3, 3) float32, " in message
    assert " and 20 more. " in message
    assert "Pass the --backbone it was trained with" in message
    assert "\n" not in message


def test_wrong_shape_is_refused_with_both_shapes_and_the_backbone_stays_as_it_was(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", resnet(1, in_channels=1), {})
    backbone = resnet(2)
    message = (
        r"2 of the wrong shape or type: layer1.0.conv1.weight \(expected \(4, 3, 3, 3\) float32, given \(4, 1, 3, 3\)"
    )
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "a.safetensors", backbone)
    assert same_state(backbone, resnet(2))


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = conv4().state_dict()
    state["layer2.0.bias"][1] = float("nan")
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"1 with NaN or infinite values: layer2.0.bias"):
        load_checkpoint(tmp_path / "a.pth", conv4())


class Malicious:
    """Unpickling this would make a directory."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, zipped):
    target = tmp_path / "executed"
    content = {"model": conv4().state_dict(), "extra": Malicious(target)}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InputError, match=r"it names (posix|nt).mkdir, and loading that could run code; nothing was run"
    ):
        load_checkpoint(tmp_path / "a.pth", conv4())
    assert not target.exists()


def test_whole_pickled_model_is_refused(tmp_path):
    torch.save(conv4(), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"it names rayfs.backbones.conv4.Conv4.* save model.state_dict\(\) alone"):
        load_checkpoint(tmp_path / "a.pth", conv4())


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>not found</html>", b"hello", b"\x00" * 64, b"PK\x03\x04half", b"\x80\x02}."]
)
def test_files_that_are_no_checkpoint_are_refused(tmp_path, suffix, content):
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=rf"a{suffix} (is not a|holds a dict|holds a )"):
        load_checkpoint(tmp_path / f"a{suffix}", conv4())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    if suffix == ".pth":
        torch.save(conv4().state_dict(), path)
    else:
        save_checkpoint(path, conv4(), {})
        path.with_suffix(".json").unlink()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"is not a .* or is damaged .*; copy or download it again"):
        load_checkpoint(path, conv4())


def test_missing_file_directory_and_empty_file_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.pth does not exist; correct the path"):
        load_checkpoint(tmp_path / "nowhere.pth", conv4())
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(InputError, match=r"folder.pth is not a file"):
        load_checkpoint(tmp_path / "folder.pth", conv4())
    (tmp_path / "empty.safetensors").touch()
    with pytest.raises(InputError, match=r"empty.safetensors is empty \(0 bytes\); copy or download it again"):
        load_checkpoint(tmp_path / "empty.safetensors", conv4())


def test_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a.onnx ends in '.onnx'; expected .safetensors, .pth or .pt"):
        load_checkpoint(tmp_path / "a.onnx", conv4())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"epoch": 3, "loss": 0.5},
            r"holds a dict with the keys 'epoch', 'loss', not tensors by name; save model.state",
        ),
        ({}, r"holds a dict with the keys \(none\)"),
        (torch.ones(3), r"holds a Tensor, not tensors by name"),
        ([torch.ones(3)], r"holds a list, not tensors by name"),
        ({"model": {"a": 1}}, r"holds a dict with the keys 'a'"),
    ],
)
def test_pickles_without_a_state_dict_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "a.pth", conv4())


def test_weights_that_are_not_those_of_their_sidecar_are_refused(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", conv4(1), {})
    safetensors.torch.save_file(conv4(2).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"is not the file that a.json describes: sha256 .* remove the .json"):
        load_checkpoint(tmp_path / "a.safetensors", conv4())


def test_sidecar_that_is_not_json_is_refused_and_one_of_another_program_is_let_be(tmp_path):
    safetensors.torch.save_file(conv4(1).state_dict(), tmp_path / "a.safetensors")
    (tmp_path / "a.json").write_text('{"architecture": "conv"}')
    assert load_checkpoint(tmp_path / "a.safetensors", conv4()).metadata == {}
    (tmp_path / "a.json").write_text("{half")
    with pytest.raises(InputError, match=r"a.json beside the checkpoint is not JSON .*; restore or remove it"):
        load_checkpoint(tmp_path / "a.safetensors", conv4())


# Hash


def test_state_hash_depends_on_values_names_shapes_and_types_alone(tmp_path):
    reference = state_hash(conv4(1))
    assert len(reference) == 16
    assert reference == state_hash(conv4(1)) == state_hash(conv4(1).to(memory_format=torch.channels_last))
    assert reference != state_hash(conv4(2))
    assert reference != state_hash(conv4(1).half())
    changed = conv4(1)
    changed.layer4[1].running_var[0] += 1e-6
    assert reference != state_hash(changed)


def test_state_hash_is_the_same_for_every_file_format(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", conv4(1), {})
    torch.save(conv4(1).state_dict(), tmp_path / "a.pth")
    hashes = set()
    for suffix in (".safetensors", ".pth"):
        backbone = conv4(2)
        load_checkpoint(tmp_path / f"a{suffix}", backbone)
        hashes.add(state_hash(backbone))
    assert hashes == {state_hash(conv4(1))}


def test_state_hash_of_a_tiny_module_never_changes():
    module = torch.nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -2.0]]))
        module.bias.fill_(0.5)
    assert state_hash(module) == "e3348d8e48681c04"
