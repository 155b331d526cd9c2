"""BaseBank: the base images and their features under one frozen backbone, computed once, mapped by every worker.

A bank is named by (backbone state, table, views), so it can never be stale: other weights or other images are another
bank. N images, V views, D features.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rayfs.cache import touch
from rayfs.datasets.image_table import ImageTable, open_table
from rayfs.durable_files import written_durably
from rayfs.engine.features import embed
from rayfs.engine.row_input import RowInput, resident, resident_bytes
from rayfs.engine.table_views import RANGE, TableViews
from rayfs.errors import InputError
from rayfs.hashing import stable_hash


@dataclass(frozen=True, kw_only=True, eq=False)
class BaseBank:
    """Images and features, both read-only memory maps that all processes of a machine share.

    Arguments:
        table: the images.
        features: float32, not normalised; (N, D) of the images without augmentation, or (N, V, D) of views of them. Or
            activations of the first blocks of the backbone: float16, (N, V, channels, height, width).
        path: the file of the features.
        device_images, device_features: copies on a GPU that has room for them (`on`).
    """

    table: ImageTable
    features: np.ndarray
    path: Path
    device_images: torch.Tensor | None = None
    device_features: torch.Tensor | None = None

    def on(self, device: torch.device, share: float = 1.0) -> "BaseBank":
        """Return this bank with copies on a GPU of what has room there; on the CPU nothing is copied.

        Arguments:
            share: of the GPU that this process has, 0 to 1.
        """
        n_bytes = resident_bytes(device, share)
        if n_bytes == 0:
            return self
        features = resident(self.features, device, n_bytes)
        images = resident(self.table.images, device, n_bytes - (0 if features is None else self.features.nbytes))
        return replace(self, device_images=images, device_features=features)

    def image_input(self, device: torch.device, n: int) -> RowInput:
        """Return what gets n images (n, H, W, C) uint8 a step onto `device`."""
        return RowInput(self.table.images, self.device_images, device, n)

    def take_features(self, rows: np.ndarray) -> torch.Tensor:
        """Copy the features of `rows`, of any shape, into a new tensor (*rows, D), or (*rows, V, D) of views."""
        return torch.from_numpy(self.features[np.asarray(rows)])

    def features_on(self, device: torch.device, rows: torch.Tensor) -> torch.Tensor:
        """Return the features (n, D) of `rows` (n,) int64 as a new tensor on `device`, where `rows` is, too.

        Raises:
            InputError: a step that is captured asks for features that the GPU has no room for.
        """
        if self.device_features is not None:
            return self.device_features[rows]
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise InputError(
                f"the {self.features.nbytes / 1e9:.1f} GB of base features do not fit the GPU, where a captured step "
                "reads them; use --execution eager"
            )
        return self.take_features(rows.cpu().numpy()).to(device)

    def flat_views(self) -> np.ndarray:
        """Return what the bank has of V views of N images as (N V, ...): view v of row r at r V + v."""
        return self.features.reshape(-1, *self.features.shape[2:])


def bank_path(
    cache_dir: Path, fingerprint: str, backbone: str, backbone_hash: str, mean: tuple[float, ...],
    std: tuple[float, ...], device_type: str,
    views: TableViews | None = None, n_blocks: int | None = None,
) -> Path:  # fmt: skip
    """Return the file of the features that a backbone gives the images of a table on a device type (cpu, cuda).

    Those of the images themselves, or of `views` of them; or activations of its first `n_blocks` blocks. The name of
    the backbone counts, too: tensors of one hash fit several (conv4 and conv4-flat).
    """
    key: list[object] = [fingerprint, backbone, backbone_hash, mean, std, device_type]
    if views is not None:
        key += ["views", RANGE, asdict(views)]
    if n_blocks is not None:
        key += ["blocks", n_blocks]
    return cache_dir / "features" / f"{stable_hash(key)}.npy"


def open_bank(cache_dir: Path, fingerprint: str, features_path: Path) -> BaseBank:
    """Map a finished bank into memory.

    Raises:
        InputError: it is not in this machine's cache, or does not fit its table.
    """
    if not features_path.exists():
        raise InputError(
            f"the features {features_path} are not on this machine; on a cluster, RAYFS_CACHE must name "
            "a folder that every node shares"
        )
    table = open_table(cache_dir, fingerprint)
    try:
        features = np.load(features_path, mmap_mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{features_path} cannot be read ({error}); remove the file") from None
    if len(features) != len(table):
        raise InputError(f"{features_path} has {len(features)} rows but its table {len(table)}; remove the file")
    touch(features_path)
    return BaseBank(table=table, features=features, path=features_path)


def save_features(path: Path, features: np.ndarray) -> None:
    """Write features (N, D); the file appears whole or not at all."""
    with written_durably(path) as temporary, temporary.open("wb") as file:
        np.save(file, features.astype(np.float32))


def embed_table(
    table: ImageTable, backbone: nn.Module, prepare: Callable[[torch.Tensor], torch.Tensor], device: torch.device
) -> np.ndarray:
    """Return the features (N, D) float32 of `table`, made in this process; the reference of the Ray pipeline."""
    parts = [
        embed(backbone, table.take(np.arange(start, min(start + 4096, len(table)))), prepare, device).cpu().numpy()
        for start in range(0, len(table), 4096)
    ]
    return np.concatenate(parts)
