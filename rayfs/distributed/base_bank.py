"""Build the base bank with Ray Data: read shards, decode, extract features over a pool of actors, write once.

Rows arrive in any order; the content order of the image table (`datasets/image_table.py`) puts them right, so the
result is the same for every number of blocks, workers and machines. Everything runs to its end before the episode pool
starts: Ray Data beside actors that hold all CPUs waits for ever.
"""

import math
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rayfs.backbones.registry import n_features
from rayfs.datasets.augmentation import normalize, plain_view
from rayfs.datasets.image_table import TableWriter, find_table, table_signature
from rayfs.datasets.images import decode
from rayfs.datasets.row_files import RowFile, arrange
from rayfs.datasets.sources import EncodedImage, ParquetSource, Source, encoded_row, read_file
from rayfs.distributed.data_task import BLOCK_BYTES, run_data_task, set_up_ray_data
from rayfs.distributed.session import Resources
from rayfs.distributed.table_features import ensure_table_features, features_path
from rayfs.durable_files import TEMPORARY_SUFFIX, written_durably
from rayfs.engine.bank import BaseBank, open_bank
from rayfs.engine.disk import full_disk_is_wrong_input, refuse_full_disk
from rayfs.engine.features import BATCH, embed
from rayfs.engine.progress import WorkProgress
from rayfs.engine.staged_backbone import StagedBackbone
from rayfs.errors import InputError


def ensure_bank(source: Source, spec: StagedBackbone, cache_dir: Path, resources: Resources, gpu: bool) -> BaseBank:
    """Return the base bank of `source` under the backbone of `spec`, building what the cache lacks, on GPUs if `gpu`.

    Raises:
        InputError: images cannot be read or decoded; names the first and counts them.
    """
    signature = table_signature(source, channels=spec.channels, image_size=spec.image_size)
    table = find_table(cache_dir, signature)
    if table is not None:  # decoded before, perhaps for another backbone
        return ensure_table_features(table, spec, cache_dir, resources, gpu)
    _run_build(source, signature, spec, cache_dir, _pool_actors(source, resources, gpu), gpu)
    table = find_table(cache_dir, signature)
    assert table is not None, "the build has just written it"
    return open_bank(cache_dir, table.fingerprint, features_path(cache_dir, table, spec, gpu))


def _pool_actors(source: Source, resources: Resources, gpu: bool) -> int:
    """Return the size of the actor pool: a GPU each, or one fewer than CPUs (reading and decoding need room beside it).

    No more than there are batches.
    """
    places = int(resources.gpus if gpu else resources.cpus - 1)
    return max(1, min(places, math.ceil(source.count() / BATCH)))


def _run_build(source: Source, signature: str, spec: StagedBackbone, cache_dir: Path, n_actors: int, gpu: bool) -> None:
    refuse_full_disk(cache_dir, build_bytes(source.count(), spec), f"the {source.count():,} base images, decoded,")
    progress = WorkProgress(f"base bank ({spec.name} features)", "images", source.count())
    print(f"building the base bank: {progress.total:,} images", flush=True)
    run_data_task(_build, (source, signature, spec, cache_dir, n_actors, gpu), progress)


def build_bytes(n_images: int, spec: StagedBackbone) -> int:
    """Return what the disk has to hold: images and features. They are put in order where they are."""
    return n_images * (spec.image_size**2 * spec.channels + 4 * n_features(spec.load(torch.device("cpu"))))


def _build(
    source: Source, signature: str, spec: StagedBackbone, cache_dir: Path, n_actors: int, gpu: bool
) -> Iterator[int]:
    """Write table and features, as they come; yields the number of images after each batch."""
    depth = n_features(spec.load(torch.device("cpu")))
    writer = TableWriter(cache_dir, channels=spec.channels, image_size=spec.image_size)
    arriving = cache_dir / "features" / f".{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
    arriving.parent.mkdir(parents=True, exist_ok=True)
    features = RowFile(arriving, (depth,), np.float32)
    errors: list[str] = []
    try:
        with full_disk_is_wrong_input(cache_dir):
            for batch in _pipeline(source, spec, n_actors, gpu):
                bad = batch["error"] != ""
                errors += batch["error"][bad].tolist()
                writer.add(batch["image"][~bad], batch["class_name"][~bad].tolist(), _keys(batch["key"][~bad]))
                features.append(batch["feature"][~bad])
                yield len(bad)
            if errors:
                more = f" (and {len(errors) - 1} more images like it)" if len(errors) > 1 else ""
                raise InputError(f"{min(errors)}{more}")
            table, order = writer.finish(signature)
            features.close()
            arrange(arriving, order)
            with written_durably(features_path(cache_dir, table, spec, gpu)) as temporary:
                arriving.replace(temporary)
    finally:
        writer.abandon()
        features.abandon()
        arriving.unlink(missing_ok=True)


def _pipeline(source: Source, spec: StagedBackbone, n_actors: int, gpu: bool) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches of image (n, S, S, C), key, class_name, feature (n, D) and error, in no particular order.

    No more tasks decode at once than there are CPUs: else they fill Ray's object store while the actors work.
    """
    import ray.data

    n_decoders = max(1, int(ray.cluster_resources().get("CPU", 1)))
    pixel_bytes = spec.image_size**2 * spec.channels
    set_up_ray_data(block_bytes=pixel_bytes * max(BATCH, BLOCK_BYTES // pixel_bytes // BATCH * BATCH))  # whole batches
    if isinstance(source, ParquetSource):
        columns = [source.image_column, source.label_column]
        encoded = ray.data.read_parquet(list(source.paths), columns=columns, include_paths=True, num_cpus=0.25)
    else:
        encoded = ray.data.from_items([{"path": path, "class_name": name} for path, name in source.files])
    # Another share of a CPU than the actors': else Ray Data fuses decoding into them, and GPUs wait for it.
    decoded = encoded.map_batches(
        Decoder(source, spec.channels, spec.image_size), batch_size=BATCH, batch_format="numpy", num_cpus=0.25,
        compute=ray.data.TaskPoolStrategy(size=n_decoders),
    )  # fmt: skip
    embedded = decoded.map_batches(
        Embedder, fn_constructor_args=(spec, gpu), batch_size=BATCH, batch_format="numpy", num_cpus=0.5,
        num_gpus=1 if gpu else 0, compute=ray.data.ActorPoolStrategy(size=n_actors),
    )  # fmt: skip
    batches: Iterator[dict[str, np.ndarray]] = embedded.iter_batches(batch_size=None, batch_format="numpy")
    return batches


class Decoder:
    """Turns rows as stored into decoded images; a row that cannot be decoded says why in `error`."""

    def __init__(self, source: Source, channels: int, image_size: int) -> None:
        self._source, self._channels, self._image_size = source, channels, image_size

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Decode the rows of the wanted classes."""
        rows = [self._decode(name, fetch) for name, fetch in self._fetchers(batch)]
        size = self._image_size
        return {
            "image": np.array([row[0] for row in rows], np.uint8).reshape(-1, size, size, self._channels),
            "key": np.array([row[1] for row in rows], dtype=object),
            "class_name": np.array([row[2] for row in rows], dtype=object),
            "error": np.array([row[3] for row in rows], dtype=object),
        }

    def _fetchers(self, batch: dict[str, np.ndarray]) -> Iterator[tuple[str, Callable[[], EncodedImage]]]:
        """Yield (class name, what gets the encoded image) of each wanted row."""
        if isinstance(self._source, ParquetSource):
            names = dict(self._source.classes)
            images, labels = batch[self._source.image_column], batch[self._source.label_column]
            for image, label, path in zip(images, labels, batch["path"], strict=True):
                if label in names:
                    yield names[label], partial(encoded_row, image["bytes"], names[label], _where(path, image))
        else:
            for path, name in zip(batch["path"], batch["class_name"], strict=True):
                yield name, partial(read_file, str(Path(self._source.root) / path), name)

    def _decode(self, class_name: str, fetch: Callable[[], EncodedImage]) -> tuple[np.ndarray, str, str, str]:
        try:
            image = fetch()
            decoded = decode(image.encoded, channels=self._channels, image_size=self._image_size, where=image.where)
            return decoded.pixels, decoded.key.hex(), class_name, ""
        except InputError as error:
            blank = np.zeros((self._image_size, self._image_size, self._channels), np.uint8)
            return blank, "", class_name, str(error)


class Embedder:
    """An actor that adds the features of a batch's images."""

    def __init__(self, spec: StagedBackbone, gpu: bool) -> None:
        self._spec, self._device = spec, torch.device("cuda" if gpu else "cpu")
        self._backbone: torch.nn.Module | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the batch with `feature` (n, D) float32."""
        if self._backbone is None:  # not loaded in the constructor: an error there would reach nobody
            self._backbone = self._spec.load_in_actor(self._device.type == "cuda")
        images = torch.from_numpy(np.array(batch["image"], dtype=np.uint8))
        if len(images):
            features = embed(self._backbone, images, self._prepare, self._device)
        else:
            features = torch.empty(0, n_features(self._backbone))
        return {**batch, "feature": features.cpu().numpy()}

    def _prepare(self, images: torch.Tensor) -> torch.Tensor:
        return normalize(plain_view(images), self._spec.mean, self._spec.std)


def _where(path: str, image: dict[str, Any]) -> str:
    return f"{path}, image '{image['path']}'" if image.get("path") else f"{path}, an image without a name"


def _keys(hexadecimal: np.ndarray) -> list[bytes]:
    return [bytes.fromhex(key) for key in hexadecimal]
