"""State dicts: a stable hash of one, and fitting a foreign one to a backbone by name and shape."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rayfs.errors import InputError
from rayfs.hashing import digest, stable_hash

WRAPPER_PREFIXES = ("module.", "encoder.", "backbone.")
"""Put before every name by DataParallel and by code that holds the backbone as an attribute."""

HEADS = (
    *("fc", "classifier", "head", "linear", "cls_classifier"),
    *("rot_classifier", "eq_head", "inv_head"),
    *("heads", "head_dist", "heads_dist", "aux_head", "last_linear", "classif"),
)
"""First parts of the names of heads: of the literature's classifiers, of SKD and IER, and of the models of timm."""

COUNTER = "num_batches_tracked"
"""Batch norm's count of batches: absent in checkpoints of old PyTorch versions, and not used at momentum 0.1."""

MAX_NAMED = 8
"""How many tensors of each kind an error message names."""


@dataclass(frozen=True, kw_only=True)
class FittedState:
    """A state dict that loads strictly, and what was done to the given one to make it so."""

    state: dict[str, Tensor]
    """Every tensor of the backbone's state dict, by name, with its shape and dtype."""
    ignored: tuple[str, ...]
    """Names, as given, of classifier heads that were left out."""
    filled: tuple[str, ...]
    """Names of batch counters that were missing and set to 0."""
    cast: tuple[str, ...]
    """Names of tensors whose floating-point type was converted."""


def state_hash(backbone: nn.Module) -> str:
    """Return 16 hexadecimal digits that depend on the names, shapes, dtypes and bytes of the state dict alone.

    Not on the device, the memory layout, the order of the tensors or the format of the file they came from.
    """
    return stable_hash([[name, *_fingerprint(tensor)] for name, tensor in sorted(backbone.state_dict().items())])


def find_heads(given: Mapping[str, Tensor], own_names: Collection[str], source: str) -> dict[str, Tensor]:
    """Return the tensors of `given` that belong to a head, by name, after taking off wrapper prefixes.

    Arguments:
        own_names: names of the backbone's own tensors, which are none of a head's whatever they are called.
        source: what to call the checkpoint in an error message.

    Raises InputError where two tensors have the same name after that, or one has values that are not finite.
    """
    heads: dict[str, Tensor] = {}
    for name, original in _match_names(given, own_names)[1]:
        if name in heads:
            raise InputError(
                f"checkpoint {source} holds the head's tensor {name} twice, with and without a wrapper prefix; "
                "remove one of them"
            )
        heads[name] = given[original]
    if broken := [name for name, tensor in heads.items() if not tensor.isfinite().all()]:
        raise InputError(
            f"checkpoint {source} has heads with NaN or infinite values: {', '.join(broken[:MAX_NAMED])}; take another "
            "--checkpoint"
        )
    return heads


def fit_state(given: Mapping[str, Tensor], backbone: nn.Module, source: str) -> FittedState:
    """Match the tensors of `given` with the backbone's by name, after taking off wrapper prefixes and heads.

    A prefix is taken off only where every name (heads aside) carries it and none is the backbone's as it stands. A name
    of the backbone's own is never taken for a head's. The backbone is not touched.

    Arguments:
        source: what to call the checkpoint in an error message.

    Raises InputError naming every tensor that is missing, unexpected, of another shape or kind of dtype, or not finite.
    """
    expected = backbone.state_dict()
    given_name, heads = _match_names(given, expected)
    missing = [name for name in expected if name not in given_name]
    filled = [name for name in missing if name.rpartition(".")[2] == COUNTER]
    found = {name: given[given_name[name]] for name in expected if name in given_name}
    problems = {
        "missing": [f"{name} {_describe(expected[name])}" for name in missing if name not in filled],
        "unexpected": [
            f"{original} {_describe(given[original])}" for name, original in given_name.items() if name not in expected
        ],
        "of the wrong shape or type": [
            f"{name} (expected {_describe(expected[name])}, given {_describe(tensor)})"
            for name, tensor in found.items()
            if not _fits(tensor, expected[name])
        ],
        "with NaN or infinite values": [name for name, tensor in found.items() if not tensor.isfinite().all()],
    }
    if any(problems.values()):
        raise InputError(_refusal(problems, source, type(backbone).__name__, len(expected)))
    state = {name: tensor.to(expected[name].dtype) for name, tensor in found.items()}
    state |= {name: torch.zeros_like(expected[name]) for name in filled}
    cast = [name for name, tensor in found.items() if tensor.dtype != expected[name].dtype]
    ignored = tuple(original for _, original in heads)
    return FittedState(state=state, ignored=ignored, filled=tuple(filled), cast=tuple(cast))


def _match_names(
    given: Mapping[str, Tensor], own_names: Collection[str]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return {name without prefixes: name as given}, and the same of the heads as pairs."""
    names = {name: name for name in given}
    heads: list[tuple[str, str]] = []
    while True:
        found = [name for name in names if name not in own_names and name.partition(".")[0] in HEADS]
        heads += [(name, names.pop(name)) for name in found]
        prefix = next((p for p in WRAPPER_PREFIXES if names and all(name.startswith(p) for name in names)), None)
        if prefix is None or any(name in own_names for name in names):
            return names, heads
        names = {name.removeprefix(prefix): original for name, original in names.items()}


def _fits(tensor: Tensor, expected: Tensor) -> bool:
    return tensor.shape == expected.shape and tensor.is_floating_point() == expected.is_floating_point()


def _refusal(problems: dict[str, list[str]], source: str, backbone: str, n_expected: int) -> str:
    parts = []
    for problem, names in problems.items():
        if names:
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            parts.append(f"{len(names)} {problem}: {', '.join(names[:MAX_NAMED])}{more}")
    return (
        f"checkpoint {source} does not fit the backbone {backbone} ({n_expected} tensors); {'; '.join(parts)}. "
        "Pass the --backbone it was trained with and images with as many channels, or another --checkpoint"
    )


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _fingerprint(tensor: Tensor) -> list[str | list[int]]:
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return [str(tensor.dtype), list(tensor.shape), digest(raw, n_hex=32)]
