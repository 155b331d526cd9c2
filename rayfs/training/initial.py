"""Where a backbone starts from other than random weights: a checkpoint, of this project or of the literature."""

from pathlib import Path

from torch import nn

from rayfs.backbones.checkpoints import load_checkpoint, save_checkpoint
from rayfs.backbones.packaged import find_checkpoint
from rayfs.backbones.state import state_hash
from rayfs.errors import InputError


def stage_initial(path: str, name: str, backbone: nn.Module, cache_dir: Path) -> tuple[Path, str, str]:
    """Load `path` into `backbone`, called `name`, and put it where every worker finds it.

    Returns:
        The file in the cache, the hash of the backbone's weights, and one line about what was used of `path`.

    Raises:
        InputError: the checkpoint is missing, damaged, or of another backbone.
    """
    try:
        report = load_checkpoint(find_checkpoint(path), backbone, name)
    except InputError as error:
        raise InputError(f"--init: {error}") from None
    found = state_hash(backbone)
    staged = cache_dir / "initial" / f"{name.replace('/', '_')}-{found}.safetensors"
    if not staged.with_suffix(".json").exists():
        staged.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(staged, backbone, {"backbone": name})
    return staged, found, report.describe()


def load_initial(staged: Path, name: str, backbone: nn.Module, wanted_hash: str | None) -> None:
    """Load what `stage_initial` put at `staged` into `backbone`.

    Raises:
        InputError: the file is not in this machine's cache, or is another one.
    """
    load_checkpoint(staged, backbone, name)
    if state_hash(backbone) != wanted_hash:
        raise InputError(f"{staged} is not the checkpoint it was; remove it and run the command again")
