"""Features of a table that is decoded already: one pass of the network over the memory map, nothing is decoded again.

Ray Data hands ranges of rows to a pool of actors; each reads its range from the shared cache. A range is one forward
pass, so the features are the same for every number of actors and machines.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from rayfs.backbones.registry import n_features
from rayfs.datasets.image_table import ImageTable, open_table
from rayfs.distributed.data_task import run_data_task, set_up_ray_data
from rayfs.distributed.session import Resources
from rayfs.durable_files import written_durably
from rayfs.engine.bank import BaseBank, bank_path, open_bank
from rayfs.engine.disk import refuse_full_disk
from rayfs.engine.progress import WorkProgress
from rayfs.engine.staged_backbone import StagedBackbone
from rayfs.engine.table_views import TableViews, embed_range, n_ranges
from rayfs.errors import InputError

MAX_BLOCKS = 200
"""Of ranges; a block is what Ray Data gives an actor to work through."""


def features_path(
    cache_dir: Path, table: ImageTable, spec: StagedBackbone, gpu: bool, views: TableViews | None = None
) -> Path:
    """Return the file of the features of `table`, of the images or of `views` of them, made on GPUs if `gpu`.

    Of activations where `spec` is of the first blocks of a backbone.
    """
    device_type = "cuda" if gpu else "cpu"  # features differ in the last bits
    return bank_path(
        cache_dir, table.fingerprint, spec.name, spec.state_hash, spec.mean, spec.std, device_type, views, spec.n_blocks
    )


def ensure_table_features(
    table: ImageTable, spec: StagedBackbone, cache_dir: Path, resources: Resources, gpu: bool,
    views: TableViews | None = None,
) -> BaseBank:  # fmt: skip
    """Return `table` with its features, or those of `views` of its images, made by a connected Ray if they are missing.

    Raises:
        InputError: an actor cannot open the cache or use its GPU, or the disk has no room for features. (That for
            activations is asked for where they are.)
    """
    path = features_path(cache_dir, table, spec, gpu, views)
    if not path.exists():
        if spec.n_blocks is None:
            n_bytes = 4 * len(table) * (views.n if views else 1) * n_features(spec.load(torch.device("cpu")))
            refuse_full_disk(cache_dir, n_bytes, f"the features of {len(table):,} images")
        places = int(resources.gpus if gpu else resources.cpus)
        n_actors = max(1, min(places, n_ranges(len(table))))
        kind = "features" if spec.n_blocks is None else f"activations behind block {spec.n_blocks}"
        what = f"{spec.name} {kind}" + (f", {views.n} views" if views else "")
        progress = WorkProgress(what, "images", len(table))
        print(f"computing {what}, of {len(table):,} images", flush=True)
        run_data_task(_build, (table.fingerprint, path, spec, cache_dir, n_actors, gpu, views), progress)
    return open_bank(cache_dir, table.fingerprint, path)


def _build(
    fingerprint: str, path: Path, spec: StagedBackbone, cache_dir: Path, n_actors: int, gpu: bool,
    views: TableViews | None,
) -> Iterator[int]:  # fmt: skip
    """Write the features of a table to `path`; yields the number of images after each block."""
    import ray.data

    set_up_ray_data()
    n_rows = len(open_table(cache_dir, fingerprint))
    count = n_ranges(n_rows)
    embedded = ray.data.range(count, override_num_blocks=min(count, MAX_BLOCKS)).map_batches(
        RangeEmbedder, fn_constructor_args=(fingerprint, spec, cache_dir, gpu, views), batch_size=1,
        batch_format="numpy", num_cpus=0.5, num_gpus=1 if gpu else 0, compute=ray.data.ActorPoolStrategy(size=n_actors),
    )  # fmt: skip
    features: np.ndarray | None = None
    n_done = 0
    with written_durably(path) as temporary:
        for block in embedded.iter_batches(batch_size=None, batch_format="numpy"):
            if features is None:
                shape = (n_rows, *block["feature"].shape[1:])
                dtype = np.float32 if spec.n_blocks is None else np.float16
                features = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
            features[block["row"]] = block["feature"]
            n_done += len(block["row"])
            yield len(block["row"])
        assert n_done == n_rows and isinstance(features, np.memmap), f"{n_done} of {n_rows} rows came back"
        features.flush()


def in_half_precision(activations: np.ndarray) -> np.ndarray:
    """Return activations as float16: half of what Ray carries and the file holds.

    Raises:
        InputError: some are too large for it.
    """
    largest = float(np.abs(activations).max())
    if not largest < np.finfo(np.float16).max:
        raise InputError(
            f"activations reach {largest:g}, but they are kept as float16, which ends at 65,504; use --frozen-views 0"
        )
    return activations.astype(np.float16)


class RangeEmbedder:
    """An actor that turns numbers of ranges into rows and features."""

    def __init__(
        self, fingerprint: str, spec: StagedBackbone, cache_dir: Path, gpu: bool, views: TableViews | None
    ) -> None:
        self._fingerprint, self._spec, self._cache_dir = fingerprint, spec, cache_dir
        self._gpu, self._views = gpu, views
        self._loaded: tuple[ImageTable, torch.nn.Module] | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return `row` (n,) and `feature` (n, D), or (n, V, D), of the ranges in `id`."""
        if self._loaded is None:  # not in the constructor: an error there would reach nobody
            self._loaded = open_table(self._cache_dir, self._fingerprint), self._spec.load_in_actor(self._gpu)
        table, backbone = self._loaded
        device = torch.device("cuda" if self._gpu else "cpu")
        spec = self._spec
        parts = [
            embed_range(table, int(index), backbone, spec.mean, spec.std, device, self._views) for index in batch["id"]
        ]
        features = np.concatenate([features for _, features in parts])
        if spec.n_blocks is not None:
            features = in_half_precision(features)
        return {"row": np.concatenate([rows for rows, _ in parts]), "feature": features}
