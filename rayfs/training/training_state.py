"""The file from which interrupted training goes on: written whole after every epoch, removed when training is done.

Tensors by name and a JSON text, in one safetensors file; nothing in it is ever unpickled.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from rayfs.durable_files import write_durably
from rayfs.errors import InputError
from rayfs.training.curve import EpochReport

STATE_SUFFIX = ".training"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Training after its last finished epoch."""

    identity: Mapping[str, Any]
    """What makes two trainings the same: configuration, data, backbone, workers; valid JSON."""
    curve: list[EpochReport]
    """One row an epoch."""
    tensors: Mapping[str, Tensor]
    """What `Trainer.state` returned."""
    best: Mapping[str, Tensor]
    """The state dict of the networks at the best epoch."""


def state_path(out: Path) -> Path:
    """Return where the training of checkpoint `out` keeps its state."""
    return out.with_suffix(STATE_SUFFIX)


def write_state(path: Path, state: TrainingState) -> None:
    """Write `state` to `path`, all of it or nothing. Raises OSError where the disk says no."""
    text = json.dumps({"identity": state.identity, "curve": [asdict(report) for report in state.curve]})
    both = {f"now/{name}": tensor for name, tensor in state.tensors.items()}
    both |= {f"best/{name}": tensor for name, tensor in state.best.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in both.items()}
    write_durably(path, safetensors.torch.save(tensors, metadata={"state": text}))


def read_state(path: Path) -> TrainingState | None:
    """Return the state at `path`; None where there is none.

    Raises:
        InputError: the file is damaged or not a training state.
    """
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            said = json.loads(file.metadata()["state"])
            parts: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}}
            for full_name in sorted(file.keys()):
                part, _, name = full_name.partition("/")
                parts[part][name] = file.get_tensor(full_name)
        curve = [EpochReport(**report) for report in said["curve"]]
        return TrainingState(identity=said["identity"], curve=curve, tensors=parts["now"], best=parts["best"])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not the state of a training, or is damaged ({type(error).__name__}: {error}); remove it to "
            "start from the beginning"
        ) from None


def refuse_other(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on with a training that was started with other settings.

    Raises:
        InputError: names the first difference.
    """
    difference = first_difference(found, wanted)
    if difference is not None:
        name, there, here = difference
        raise InputError(
            f"{path} belongs to a training with {name} {there}, and this command says {here}; give another --out, or "
            "remove that file"
        )


def first_difference(found: Any, wanted: Any, name: str = "settings") -> tuple[str, Any, Any] | None:
    """Return (dotted name, value in `found`, value in `wanted`) of the first difference; None where there is none."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in sorted(found.keys() | wanted.keys()):
            inner = key if name == "settings" else f"{name}.{key}"
            difference = first_difference(found.get(key), wanted.get(key), inner)
            if difference is not None:
                return difference
        return None
    return None if found == wanted else (name, found, wanted)
