"""Save a backbone's weights, and load those of this project or of the literature, saying all that was done."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from rayfs.backbones.checkpoint_files import (
    SAFETENSORS_SUFFIX,
    parse_tensors,
    read_bytes,
    write_failures_explained,
)
from rayfs.backbones.state import HEADS, find_heads, fit_state, state_hash
from rayfs.durable_files import write_durably
from rayfs.errors import InputError
from rayfs.json_text import parse_json
from rayfs.redaction import without_secrets_inside


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What `load_checkpoint` matched, left out and filled in."""

    path: str
    """The file that was read."""
    n_tensors: int
    """Tensors of the file that went into the backbone."""
    ignored: tuple[str, ...]
    """Names, as in the file, of classifier heads that were left out."""
    filled: tuple[str, ...]
    """Names of batch counters that the file lacks; set to 0."""
    cast: tuple[str, ...]
    """Names of tensors whose floating-point type was converted."""
    metadata: dict[str, Any]
    """The metadata given to `save_checkpoint`; empty where no sidecar lies beside the file."""

    def describe(self) -> str:
        """Return one line for printing."""
        line = f"loaded {self.n_tensors} tensors from {self.path}"
        if self.ignored:
            line += f"; ignored {len(self.ignored)} of a classifier head: {', '.join(self.ignored)}"
        if self.filled:
            line += f"; set {len(self.filled)} absent batch counters to 0: {', '.join(self.filled)}"
        if self.cast:
            line += f"; converted the type of {len(self.cast)}: {', '.join(self.cast)}"
        return line


def save_checkpoint(
    path: str | Path, backbone: nn.Module, metadata: dict[str, Any], heads: Mapping[str, Tensor] | None = None
) -> None:
    """Write the backbone's state dict to `path` (.safetensors), and `metadata` to `<stem>.json` beside it.

    The sidecar holds {"metadata", "n_tensors" and "sha256" of the file, "state_hash" of the backbone}. Each file is
    written to a temporary name and renamed; at no moment does a sidecar lie beside weights that are not its own.

    Arguments:
        heads: tensors of classifier heads by name (`classifier.weight`, `rot_classifier.bias`, `eq_head.0.weight`),
            stored in the same file for `read_heads`; `load_checkpoint` leaves them out, and so does the state hash.

    Secrets in texts of the metadata (credentials in the URIs of a command) are not written.

    Raises InputError where the suffix is another, or the place cannot be written; TypeError or ValueError where
    `metadata` is not JSON; ValueError where a head's tensor has the name of a tensor of the backbone, or begins with
    none of `rayfs.backbones.state.HEADS`, so that it could not be told from the backbone's.
    """
    path = Path(path)
    if path.suffix != SAFETENSORS_SUFFIX:
        raise InputError(f"checkpoints are saved as {SAFETENSORS_SUFFIX}, got {str(path)!r}; change its ending")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.state_dict().items()}
    state |= _checked_heads(heads or {}, own_names=set(state))
    data = safetensors.torch.save(state)
    sidecar = {
        "metadata": without_secrets_inside(metadata),
        "n_tensors": len(state),
        "sha256": hashlib.sha256(data).hexdigest(),
        "state_hash": state_hash(backbone),
    }
    text = json.dumps(sidecar, indent=2, sort_keys=True, allow_nan=False) + "\n"
    sidecar_path = path.with_suffix(".json")
    with write_failures_explained(path):
        sidecar_path.unlink(missing_ok=True)
        write_durably(path, data)
        write_durably(sidecar_path, text.encode())


def _checked_heads(heads: Mapping[str, Tensor], own_names: set[str]) -> dict[str, Tensor]:
    for name in heads:
        if name in own_names:
            raise ValueError(f"the head's tensor {name!r} has the name of a tensor of the backbone; rename the head")
        if name.partition(".")[0] not in HEADS:
            raise ValueError(f"the head's tensor {name!r} begins with none of: {', '.join(HEADS)}; rename the head")
    # Copies: safetensors refuses tensors that share memory, as two heads of one module may.
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in heads.items()}


def load_checkpoint(path: str | Path, backbone: nn.Module, name: str | None = None) -> LoadReport:
    """Load `path` into `backbone`, all of it or nothing, and report what was matched.

    Accepts .safetensors, and .pth or .pt holding tensors only: a state dict, or a dict with one under "model",
    "state_dict" or "params". Wrapper prefixes that every name carries are taken off, classifier heads are ignored and
    reported, absent batch counters are set to 0 and reported. Dropout's generator and DropBlock's ramp stay as they
    are.

    Arguments:
        name: what `create_backbone` was called with. A sidecar that names another backbone is refused then: conv4 and
            conv4-flat have the same tensors and compute different features.

    Raises InputError where the file is missing, empty, damaged, not a checkpoint, holds objects other than tensors, is
    not the file its sidecar describes, or does not fit the backbone; then the backbone is as it was.
    """
    path = Path(path)
    tensors, metadata = _read(path)
    trained = metadata.get("backbone", name)
    if name is not None and trained != name:
        raise InputError(f"checkpoint {path} is of the backbone '{trained}', not '{name}'; pass --backbone {trained}")
    fitted = fit_state(tensors, backbone, source=str(path))
    backbone.load_state_dict(fitted.state, strict=True)
    return LoadReport(
        path=str(path),
        n_tensors=len(fitted.state) - len(fitted.filled),
        ignored=fitted.ignored,
        filled=fitted.filled,
        cast=fitted.cast,
        metadata=metadata,
    )


def read_heads(path: str | Path, backbone: nn.Module | None = None) -> dict[str, Tensor]:
    """Return the tensors of the classifier heads in `path`, by name, on the CPU; empty where there are none.

    Names are without wrapper prefixes: `classifier.weight`, `rot_classifier.weight`, `eq_head.0.weight`, ... Files are
    read as by `load_checkpoint`, and what it reports as ignored is what is returned here.

    Arguments:
        backbone: whose file it is. Needed for the models that have tensors of their own under a head's name (timm's
            ConvNeXt has `head.norm.weight`), which are otherwise taken for a head's.

    Raises InputError where the file cannot be read as a checkpoint, or a head has values that are not finite.
    """
    path = Path(path)
    tensors, _ = _read(path)
    return find_heads(tensors, backbone.state_dict() if backbone is not None else (), source=str(path))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file, and the metadata of its sidecar."""
    data = read_bytes(path)
    metadata = _sidecar_metadata(path, data) if path.suffix == SAFETENSORS_SUFFIX else {}
    return parse_tensors(data, path), metadata


def _sidecar_metadata(path: Path, data: bytes) -> dict[str, Any]:
    """Return the metadata of the sidecar, after comparing its hash; empty where there is none of this project's."""
    sidecar_path = path.with_suffix(".json")
    if not sidecar_path.is_file():
        return {}
    try:
        sidecar = parse_json(sidecar_path.read_bytes())
    except ValueError as error:
        raise InputError(f"{sidecar_path} beside the checkpoint is not JSON ({error}); restore or remove it") from error
    except OSError as error:
        raise InputError(f"{sidecar_path} cannot be read ({error.strerror}); check its permissions") from error
    if not isinstance(sidecar, dict) or not {"metadata", "sha256"} <= sidecar.keys():
        return {}
    if not isinstance(sidecar["metadata"], dict) or not isinstance(sidecar["sha256"], str):
        raise InputError(
            f"{sidecar_path} beside the checkpoint is damaged: expected an object as metadata and a text as sha256; "
            "restore or remove it"
        )
    found = hashlib.sha256(data).hexdigest()
    if found != sidecar["sha256"]:
        raise InputError(
            f"checkpoint {path} is not the file that {sidecar_path.name} describes: sha256 {found[:12]}..., expected "
            f"{sidecar['sha256'][:12]}...; copy both again, or remove the .json if the weights were replaced on purpose"
        )
    return sidecar["metadata"]
