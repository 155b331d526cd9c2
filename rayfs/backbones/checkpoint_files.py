"""Checkpoint files: read tensors without running anyone's code, and write files that are whole or absent."""

import argparse
import io
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from rayfs.backbones.pickle_scan import Unreasonable, refuse_unreasonable
from rayfs.errors import InputError

PICKLE_SUFFIXES = (".pth", ".pt")
SAFETENSORS_SUFFIX = ".safetensors"

STATE_KEYS = ("model", "state_dict", "params")
"""Where training scripts put the state dict beside their options and epoch counters."""

_N_LEGACY_PICKLES = 5
"""Of a file without an archive: magic number, protocol, system, content, keys of the storages."""


def read_bytes(path: Path) -> bytes:
    """Return the content of a checkpoint file. Raises InputError where it is absent, empty, unreadable or misnamed."""
    if path.suffix not in (SAFETENSORS_SUFFIX, *PICKLE_SUFFIXES):
        raise InputError(
            f"checkpoint {path} ends in {path.suffix or 'no suffix'!r}; expected {SAFETENSORS_SUFFIX}, "
            f"{' or '.join(PICKLE_SUFFIXES)}: rename the file after its format"
        )
    if not path.is_file():
        kind = "is not a file" if path.exists() else "does not exist"
        raise InputError(f"checkpoint {path} {kind}; correct the path")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be read: {error.strerror}; check its permissions") from error
    if not data:
        raise InputError(f"checkpoint {path} is empty (0 bytes); copy or download it again")
    return data


def parse_tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors by name, on the CPU, of a file's content; the suffix of `path` says the format."""
    if path.suffix == SAFETENSORS_SUFFIX:
        try:
            # The library returns them in an order that changes from call to call; messages should not.
            tensors = dict(sorted(safetensors.torch.load(data).items()))
        except (safetensors.SafetensorError, KeyError, ValueError) as error:  # KeyError: a type that torch lacks
            raise _not_a_checkpoint(path, "safetensors file", error) from error
    else:
        _refuse_compressed(data, path)
        _refuse_unreasonable(data, path)
        tensors = _state_dict_in(_unpickle_safely(data, path), path)
    _refuse_odd_tensors(tensors, path)
    return tensors


@contextmanager
def write_failures_explained(path: Path) -> Iterator[None]:
    """Turn an OSError of the block (a full disk, a directory without write permission) into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write checkpoint {path}: {error.strerror}; free space, or choose a place that can be written"
        ) from error


def _refuse_compressed(data: bytes, path: Path) -> None:
    """Refuse archives that unpack to more than they are: PyTorch never compresses, and a bomb would fill the memory."""
    if not data.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            n_bytes = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise _not_a_checkpoint(path, "PyTorch checkpoint", error) from error
    if n_bytes > len(data):
        raise InputError(
            f"checkpoint {path} is compressed: {len(data):,} bytes that unpack to {n_bytes:,}; save it with "
            "torch.save, which does not compress"
        )


def _refuse_unreasonable(data: bytes, path: Path) -> None:
    """Refuse pickles that could keep the loader busy for ever; those it would refuse itself are left to it."""
    try:
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for name in archive.namelist():
                    if name.endswith("data.pkl"):
                        refuse_unreasonable(archive.read(name))
        else:
            refuse_unreasonable(data, _N_LEGACY_PICKLES)
    except Unreasonable as error:
        raise InputError(f"checkpoint {path} holds {error}; save model.state_dict() alone") from None
    except MemoryError:
        raise
    except Exception as error:  # A damaged archive or pickle can raise anything.
        raise _not_a_checkpoint(path, "PyTorch checkpoint", error) from error


def _refuse_odd_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse what is not an array of stored numbers: sparse, complex or without values, or far more of them than bytes.

    A tensor may repeat its numbers (a stride of 0), so that a file of 1 kB claims 10^12 of them.
    """
    for name, tensor in tensors.items():
        odd = (
            "sparse" if tensor.layout != torch.strided
            else "without values (device meta)" if tensor.device.type != "cpu"
            else "complex" if tensor.is_complex()
            else "quantized" if tensor.is_quantized
            else f"{tuple(tensor.shape)} of {tensor.untyped_storage().nbytes():,} stored bytes"
            if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
            else None
        )  # fmt: skip
        if odd is not None:
            raise InputError(f"checkpoint {path}: tensor {name!r} is {odd}; expected plain arrays: save them anew")


def _unpickle_safely(data: bytes, path: Path) -> Any:
    """Unpickle tensors and plain containers only.

    argparse.Namespace is allowed besides: the released RFS-style checkpoints keep their options in one, and it has
    no code to run.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sparse tensors, which are refused
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        refused = re.search(r"(?:GLOBAL|[Gg]lobal:?|class|function) ([A-Za-z_][\w.]*\.[\w.]+)", str(error))
        if refused is None:
            raise _not_a_checkpoint(path, "PyTorch checkpoint", error) from error
        raise InputError(
            f"checkpoint {path} holds more than tensors: it names {refused[1]}, and loading that could run code; "
            "nothing was run. Where you trust the file, load it once with the code that wrote it and save "
            "model.state_dict() alone"
        ) from error
    except Exception as error:  # A damaged pickle stream can raise anything.
        raise _not_a_checkpoint(path, "PyTorch checkpoint", error) from error


def _state_dict_in(loaded: Any, path: Path) -> dict[str, Tensor]:
    wrapped = loaded if isinstance(loaded, dict) else {}
    state = next((wrapped[key] for key in STATE_KEYS if isinstance(wrapped.get(key), dict)), loaded)
    if (
        isinstance(state, dict)
        and state
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())
    ):
        return dict(state)
    keys = f" with the keys {', '.join(map(_shown, list(state)[:8])) or '(none)'}" if isinstance(state, dict) else ""
    raise InputError(
        f"checkpoint {path} holds a {type(state).__name__}{keys}, not tensors by name; save model.state_dict(), or a "
        f"dict with it under one of: {', '.join(STATE_KEYS)}"
    )


def _shown(key: Any) -> str:
    """Return a key as messages show it; a nested one may have a text without end."""
    return repr(key)[:60] if isinstance(key, str | bytes) else f"a {type(key).__name__}"


def _not_a_checkpoint(path: Path, expected: str, error: Exception) -> InputError:
    first_line = (str(error).splitlines() or [""])[0][:120]
    return InputError(
        f"checkpoint {path} is not a {expected} or is damaged ({type(error).__name__}: {first_line}); copy or download "
        "it again, and check that a web page was not saved in its place"
    )
