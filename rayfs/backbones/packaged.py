"""The embeddings that come with the package, and what each fits, as its sidecar says."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayfs.backbones.checkpoint_files import SAFETENSORS_SUFFIX

FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True, kw_only=True)
class PackagedCheckpoint:
    """One embedding of the package."""

    path: Path
    metadata: dict[str, Any]
    """What `save_checkpoint` was given: backbone, benchmark, channels, image_size, training, curve, ..."""

    @property
    def name(self) -> str:
        """What `--checkpoint` and `--teacher` call it."""
        return self.path.stem

    @property
    def validation_accuracy(self) -> float:
        """On the validation episodes that chose its epoch, a fraction."""
        return max(float(row["validation_accuracy"]) for row in self.metadata["curve"])

    def fits(self, backbone: str, benchmark: str, channels: int, image_size: int) -> bool:
        """Return whether it was trained with this backbone, at this size, on this benchmark with no class left out."""
        wanted = {"backbone": backbone, "benchmark": benchmark, "channels": channels, "image_size": image_size}
        return all(self.metadata[name] == value for name, value in wanted.items()) and "left_out" not in self.metadata


def packaged_checkpoints() -> list[PackagedCheckpoint]:
    """Return all embeddings of the package, by name."""
    return [
        PackagedCheckpoint(path=path, metadata=json.loads(path.with_suffix(".json").read_text())["metadata"])
        for path in sorted(FOLDER.glob(f"*{SAFETENSORS_SUFFIX}"))
    ]


def best_packaged(backbone: str, benchmark: str, channels: int, image_size: int) -> Path | None:
    """Return the embedding that fits and is best on validation classes; None where none fits."""
    fitting = [c for c in packaged_checkpoints() if c.fits(backbone, benchmark, channels, image_size)]
    return max(fitting, key=lambda checkpoint: checkpoint.validation_accuracy).path if fitting else None


def find_checkpoint(given: str | Path) -> Path:
    """Return the path of a checkpoint that is given by path, or by the name of one in the package.

    Names have no ending; a file in the way of a name is what is meant.
    """
    path = Path(given)
    packaged = FOLDER / f"{path}{SAFETENSORS_SUFFIX}"
    is_name = path.name == str(path) and not path.suffix and not path.exists()
    return packaged if is_name and packaged.exists() else path
