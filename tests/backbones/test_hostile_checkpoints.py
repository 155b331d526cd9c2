"""Checkpoints that are broken or made to harm: loaded exactly, or refused with one message; nothing in them is run."""

import argparse
import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from corruption import FUZZ, corruptions, within_seconds
from hypothesis import given

from rayfs.backbones import Conv4, load_checkpoint, save_checkpoint
from rayfs.backbones.checkpoint_files import parse_tensors
from rayfs.errors import InputError
from rayfs.randomness import torch_generator


def conv4(seed: int = 0) -> Conv4:
    return Conv4(width=2, generator=torch_generator(seed, "weights"))


def same_state(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def safe(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """Write a safetensors file by hand: the length of the header, the header, the numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def one(dtype: str, shape: Any, offsets: Any) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def pth(content: Any, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def compressed(data: bytes) -> bytes:
    """Compress the entries of an archive, as PyTorch never does."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    return buffer.getvalue()


class Bomb:
    """Unpickling this would write a file into the folder of the test."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("exploded",)


def written(*opcodes: bytes) -> bytes:
    """Write a pickle by hand, in the place of the tensors of a PyTorch file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pth({}))) as source, zipfile.ZipFile(buffer, "w") as target:
        for entry in source.infolist():
            content = b"\x80\x02" + b"".join(opcodes) + b"."
            target.writestr(entry.filename, content if entry.filename.endswith("data.pkl") else source.read(entry))
    return buffer.getvalue()


TUPLES = b")q\0" + 60 * b"h\0\x86q\0" + b"q\1}h\1K\1s"
"""A dictionary with one key: 60 tuples that hold the next one twice each, 2^60 steps to hash."""
ODD_KEY = "a key of a dictionary that is neither a text nor a number of 8 bytes or less"
ALONE = "; save model.state_dict() alone"
MANY = f"holds a tuple of more than 1,000 items, those of tuples in it included{ALONE}"

DAMAGED = "is not a safetensors file or is damaged ("
AGAIN = "); copy or download it again, and check that a web page was not saved in its place"
NO_PTH = "is not a PyTorch checkpoint or is damaged ("
ANEW = "expected plain arrays: save them anew"
CODE = (
    "holds more than tensors: it names posix.mkdir, and loading that could run code; nothing was run. Where you trust "
    "the file, load it once with the code that wrote it and save model.state_dict() alone"
)
BOMB = pickle.dumps({"model": Bomb()}, protocol=2)

REFUSED: dict[str, tuple[str, bytes, str]] = {
    "nothing": (".safetensors", b"", "is empty (0 bytes); copy or download it again"),
    "nothing pickled": (".pth", b"", "is empty (0 bytes); copy or download it again"),
    "half a length": (".safetensors", b"\1\0\0", f"{DAMAGED}...{AGAIN}"),
    "length of 8 EB": (".safetensors", safe({}, length=2**63), f"{DAMAGED}...header too large{AGAIN}"),
    "length of 99 MB": (".safetensors", safe({}, length=99_000_000), f"{DAMAGED}...invalid header length{AGAIN}"),
    "length of 0": (".safetensors", safe(b""), f"{DAMAGED}...{AGAIN}"),
    "header that is no JSON": (".safetensors", safe(b"{half"), f"{DAMAGED}...{AGAIN}"),
    "header that is no UTF-8": (".safetensors", safe(b'{"\xff": 1}'), f"{DAMAGED}...{AGAIN}"),
    "header too deep": (".safetensors", safe(b"[" * 50_000), f"{DAMAGED}...{AGAIN}"),
    "header that is a list": (".safetensors", safe([]), f"{DAMAGED}...{AGAIN}"),
    "unknown type": (".safetensors", safe(one("X9", [1], [0, 4]), b"\0" * 4), f"{DAMAGED}...{AGAIN}"),
    "type that torch lacks": (".safetensors", safe(one("F4", [2], [0, 1]), b"\0"), f"{DAMAGED}KeyError: 'F4'{AGAIN}"),
    "numbers missing": (".safetensors", safe(one("F32", [9], [0, 36]), b"\0" * 4), f"{DAMAGED}...{AGAIN}"),
    "numbers too many": (".safetensors", safe(one("F32", [1], [0, 4]), b"\0" * 8), f"{DAMAGED}...{AGAIN}"),
    "offsets that run back": (".safetensors", safe(one("F32", [1], [4, 0]), b"\0" * 4), f"{DAMAGED}...{AGAIN}"),
    "more than 2^64 numbers": (
        ".safetensors", safe(one("F32", [2**40, 2**40], [0, 4]), b"\0" * 4), f"{DAMAGED}...{AGAIN}",
    ),
    "negative shape": (".safetensors", safe(one("F32", [-1], [0, 4]), b"\0" * 4), f"{DAMAGED}...{AGAIN}"),
    "two tensors in one place": (
        ".safetensors", safe(one("F32", [1], [0, 4]) | {"b": one("F32", [1], [0, 4])["a"]}, b"\0" * 4),
        f"{DAMAGED}...{AGAIN}",
    ),
    "complex numbers": (
        ".safetensors", safe(one("C64", [1], [0, 8]), b"\0" * 8), f": tensor 'a' is complex; {ANEW}",
    ),
    "no tensors": (".safetensors", safe({}), "does not fit the backbone Conv4 (28 tensors); 24 missing: ..."),
    "web page": (".safetensors", b"<!DOCTYPE html><p>not found", f"{DAMAGED}...{AGAIN}"),
    "pickle called safetensors": (".safetensors", BOMB, f"{DAMAGED}...{AGAIN}"),
    "PyTorch file called safetensors": (".safetensors", pth({"model": Bomb()}), f"{DAMAGED}...{AGAIN}"),
    "safetensors called pth": (".pth", safetensors.torch.save({"a": torch.ones(2)}), f"{NO_PTH}...{AGAIN}"),
    "bare pickle": (".pth", BOMB, CODE),
    "pickled object": (".pth", pth({"model": {"a": torch.ones(2)}, "x": Bomb()}), CODE),
    "pickled object, old format": (".pt", pth({"model": {"a": torch.ones(2)}, "x": Bomb()}, zipped=False), CODE),
    "key that is a number": (
        ".pth", pth({1: torch.ones(2), "1": torch.ones(2)}),
        "holds a dict with the keys a int, '1', not tensors by name; save model.state_dict(), or a dict with it under "
        "one of: model, state_dict, params",
    ),
    "key of a megabyte": (".pth", pth({"k" * 1_000_000: 1}), f"holds a dict with the keys '{'k' * 59}, not tensors..."),
    "archive of 195 kB for 200 MB": (
        ".pth", compressed(pth({"a": torch.zeros(50_000_000)})),
        "is compressed: ... bytes that unpack to 200,00..., which does not compress",
    ),
    "archive without entries": (".pth", b"PK\5\6" + b"\0" * 18, f"{NO_PTH}...{AGAIN}"),
    "archive cut off": (".pth", pth({"a": torch.ones(2)})[:-30], f"{NO_PTH}...{AGAIN}"),
    "a number repeated 10^12 times": (
        ".pth", pth({"layer1.0.weight": torch.zeros(1).expand(10**12)}),
        f": tensor 'layer1.0.weight' is (1000000000000,) of 4 stored bytes; {ANEW}",
    ),
    "sparse": (".pth", pth({"a": torch.eye(3).to_sparse()}), f": tensor 'a' is sparse; {ANEW}"),
    "without values": (
        ".pth", pth({"a": torch.zeros(3, device="meta")}), f": tensor 'a' is without values (device meta); {ANEW}",
    ),
    "not a number": (
        ".pth", pth(conv4().state_dict() | {"layer1.0.bias": torch.full((2,), float("nan"))}),
        "does not fit the backbone Conv4 (28 tensors); 1 with NaN or infinite values: layer1.0.bias. ...",
    ),
    "infinite": (
        ".safetensors",
        safetensors.torch.save(conv4().state_dict() | {"layer4.1.running_var": torch.full((2,), float("inf"))}),
        "does not fit the backbone Conv4 (28 tensors); 1 with NaN or infinite values: layer4.1.running_var. ...",
    ),
    "key of 2^60 tuples": (".pth", written(TUPLES), MANY),
    "key of 2^60 tuples, old format": (".pt", pth({}, zipped=False).replace(b"}q\0", TUPLES), MANY),
    "key of 2^60 tuples, bare pickle": (".pth", b"\x80\2" + TUPLES + b".", MANY),
    "tuple in a tuple 10^5 times": (".pth", written(b")", 100_000 * b"\x85"), MANY),
    "keys that are tuples": (".pth", pth({(1, 2): torch.ones(2)}), f"holds {ODD_KEY}{ALONE}"),
    "keys of one hash": (
        ".pth", written(b"}(", *(pickle.dumps(i * (2**61 - 1), 2)[2:-1] + b"K\0" for i in range(5, 50_000)), b"u"),
        f"holds {ODD_KEY}{ALONE}",
    ),
    "tuples in a list that is counted": (
        ".pth", written(b"ccollections\nCounter\n]", b"(K\1K\1\x86e", b"\x85R"),
        f"holds a call with a list of more than texts and numbers{ALONE}",
    ),
    "call of a call": (
        ".pth", written(
            b"ctorch._tensor\n_rebuild_from_type_v2\n(ccollections\nCounter\nctorch\nTensor\n",
            b"](K\1K\1\x86e\x85}tR",
        ),
        f"holds a call with a list of more than texts and numbers{ALONE}",
    ),
    "text of a list as the place of a tensor": (
        ".pth", written(b"](K\1e\x85Q"),
        f"holds a tensor's storage that is named by more than texts and numbers{ALONE}",
    ),
    "array of 10^12 bytes": (
        ".pth", written(b"cbuiltins\nbytearray\n\x8a\6", (10**12).to_bytes(6, "little"), b"\x85R"),
        f"holds more than 100 calls of functions, or memory, that no tensor needs{ALONE}",
    ),
    "100,000 calls": (
        ".pth", written(b"(", 100_000 * b"cbuiltins\nset\nX\4\0\0\0abcd\x85R", b"l"),
        f"holds more than 100 calls of functions, or memory, that no tensor needs{ALONE}",
    ),
    "half a tensor": (
        ".pth", pth(conv4().state_dict() | {"layer1.0.bias": torch.zeros(1)}),
        "does not fit the backbone Conv4 (28 tensors); 1 of the wrong shape or type: layer1.0.bias (expected (2,) "
        "float32, given (1,) float32). ...",
    ),
}  # fmt: skip
"""Name -> (suffix, content, the message behind the path); `...` stands for the libraries' words."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_checkpoint_is_refused_with_one_message_and_nothing_is_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix, content, message = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    backbone = conv4(1)
    with pytest.raises(InputError) as refusal:
        within_seconds(lambda: load_checkpoint(path, backbone), 30)
    colon = "" if message.startswith(":") else " "
    pattern = re.escape(f"checkpoint {path}{colon}{message}").replace(r"\.\.\.", ".*")
    assert re.fullmatch(pattern, str(refusal.value)), str(refusal.value)
    assert not (tmp_path / "exploded").exists()
    assert same_state(backbone, conv4(1))


def test_what_training_scripts_keep_beside_the_weights_is_no_harm(tmp_path: Path) -> None:
    state = conv4().state_dict()
    state["layer1.0.weight"].note = "an attribute"  # type: ignore[attr-defined]
    beside = {
        "opt": argparse.Namespace(betas=(0.9, 0.999), steps=[1, (2, 3)], names={"a"}, raw=b"ab", step=2**70),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"betas": (0.9, 0.9), "params": [0]}]},
        "scheduler": {"milestones": Counter([60, 80]), "_last_lr": [0.1]},
        "epoch": 90, "size": torch.Size([2, 3]), "type": torch.float16, "parameter": torch.nn.Parameter(torch.ones(2)),
    }  # fmt: skip
    for i, zipped in enumerate((True, False)):
        (tmp_path / f"{i}.pth").write_bytes(pth({"model": state, **beside}, zipped))
        backbone = conv4(1)
        load_checkpoint(tmp_path / f"{i}.pth", backbone)
        assert same_state(backbone, conv4())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "lost link", "link to itself"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"a{suffix}"
    put: dict[str, Callable[[], Any]] = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "lost link": lambda: path.symlink_to("nowhere"),
        "link to itself": lambda: path.symlink_to(path),
    }
    put[kind]()
    said = "is not a file" if kind in ("folder", "pipe") else "does not exist"
    with pytest.raises(InputError) as refusal:
        within_seconds(lambda: load_checkpoint(path, conv4()))
    assert str(refusal.value) == f"checkpoint {path} {said}; correct the path"


@pytest.mark.parametrize(
    ("sidecar", "message"),
    [
        (b"", "is not JSON (Expecting value"),
        (b"{half", "is not JSON (Expecting property name"),
        (b"\xff\xfe\xfd", "is not JSON ("),
        (b"[" * 100_000, "is not JSON (it is nested too deeply); restore or remove it"),
        (b'{"metadata": {"accuracy": NaN}, "sha256": "0"}', "is not JSON (NaN is no JSON value); restore or remove it"),
        (b'{"metadata": [], "sha256": "0"}', "is damaged: expected an object as metadata and a text as sha256"),
        (b'{"metadata": {}, "sha256": 7}', "is damaged: expected an object as metadata and a text as sha256"),
        (b'{"metadata": null, "sha256": null}', "is damaged: expected an object as metadata and a text as sha256"),
    ],
)
def test_a_damaged_sidecar_is_refused_by_its_name(tmp_path: Path, sidecar: bytes, message: str) -> None:
    save_checkpoint(tmp_path / "a.safetensors", conv4(), {})
    (tmp_path / "a.json").write_bytes(sidecar)
    with pytest.raises(InputError) as refusal:
        load_checkpoint(tmp_path / "a.safetensors", conv4())
    assert str(refusal.value).startswith(f"{tmp_path / 'a.json'} beside the checkpoint {message}")


def test_a_sidecar_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "a.safetensors", conv4(), {})
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.suffix == ".json":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError) as refusal:
        load_checkpoint(tmp_path / "a.safetensors", conv4())
    assert str(refusal.value) == f"{tmp_path / 'a.json'} cannot be read (Permission denied); check its permissions"


# Damage

WHOLE = safetensors.torch.save(conv4().state_dict())
HEADER_BYTES = 8 + struct.unpack("<Q", WHOLE[:8])[0]
PTH = pth({"first": torch.arange(3.0), "second": torch.ones(2, 2)})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "a.safetensors"
    save_checkpoint(path, conv4(), {"backbone": "conv4"})
    return path


@pytest.mark.parametrize("part", ["anywhere", "numbers"])
def test_damaged_weights_beside_their_sidecar_load_exactly_or_are_refused(saved: Path, part: str) -> None:
    start = 0 if part == "anywhere" else HEADER_BYTES

    @FUZZ
    @given(corruptions(WHOLE[start:]))
    def check(damaged: bytes) -> None:
        saved.write_bytes(WHOLE[:start] + damaged)
        backbone = conv4(1)
        try:
            load_checkpoint(saved, backbone)
        except InputError as error:
            assert str(saved) in str(error)
            assert same_state(backbone, conv4(1)), "all or nothing"
        else:
            assert same_state(backbone, conv4())

    check()


@FUZZ
@given(corruptions(WHOLE[:HEADER_BYTES]))
def test_a_damaged_header_is_refused_or_claims_no_more_than_the_file_holds(damaged: bytes) -> None:
    """Without a sidecar nothing tells changed numbers or names; `load_checkpoint` compares the latter."""
    try:
        tensors = parse_tensors(damaged + WHOLE[HEADER_BYTES:], Path("a.safetensors"))
    except InputError as error:
        assert str(error).startswith("checkpoint a.safetensors")
    else:
        assert sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) <= len(WHOLE)


@FUZZ
@given(corruptions(PTH))
def test_a_damaged_pickle_gives_tensors_or_is_refused(damaged: bytes) -> None:
    try:
        tensors = parse_tensors(damaged, Path("a.pth"))
    except InputError as error:
        assert str(error).startswith("checkpoint a.pth")
    else:
        assert all(isinstance(name, str) and tensor.layout == torch.strided for name, tensor in tensors.items())
