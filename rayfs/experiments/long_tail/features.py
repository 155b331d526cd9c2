"""Images of a long-tailed benchmark, its checkpoints with their cosine heads, and the features they give."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rayfs.backbones.checkpoints import load_checkpoint, read_heads
from rayfs.backbones.packaged import find_checkpoint
from rayfs.datasets.image_table import ImageTable, find_table, load_table, table_signature
from rayfs.datasets.registry import Benchmark, open_benchmark
from rayfs.distributed.session import ray_session
from rayfs.distributed.table_features import ensure_table_features, features_path
from rayfs.engine.bank import open_bank
from rayfs.engine.disk import refuse_full_disk
from rayfs.engine.staged_backbone import StagedBackbone
from rayfs.engine.table_views import TableViews
from rayfs.errors import InputError
from rayfs.experiments.embeddings.experiment import choose_device
from rayfs.experiments.episodes.experiment import packaged_checkpoint, stage_backbone
from rayfs.experiments.long_tail.flags import LongTailEvalConfig
from rayfs.hashing import digest

WEIGHT, SCALE = "classifier.weight", "classifier.scale"
"""Tensors of a cosine head in a checkpoint."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LongTailImages:
    """The splits of a benchmark whose classes are the same in all of them. C classes."""

    benchmark: Benchmark
    tables: Mapping[str, ImageTable]
    labels: Mapping[str, np.ndarray]
    """Split -> class of each image, int64, as positions in `class_names`."""
    class_names: tuple[str, ...]
    """Of the training images."""
    counts_C: np.ndarray
    """Training images of each class, int64."""
    cache_dir: Path
    seed: int
    """Of augmented views."""
    gpu: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class LongTailModel:
    """One checkpoint: a backbone and its cosine head."""

    name: str
    spec: StagedBackbone
    weights_CD: Tensor
    """0 for classes that it was not trained on."""
    seen_C: Tensor
    """Classes that it was trained on, bool."""
    scale: float
    report: str
    """What was loaded, one line."""

    @property
    def head_hash(self) -> str:
        """Names the weights and the scale of the head."""
        return digest(self.weights_CD.numpy().tobytes() + np.float64(self.scale).tobytes())


def open_images(config: LongTailEvalConfig, cache_dir: Path) -> LongTailImages:
    """Open the splits that the flags need, decoding what the cache lacks.

    Raises:
        InputError: the benchmark's splits have different classes, or a split has a class that training lacks.
    """
    device = choose_device(config.compute.device)
    benchmark = open_benchmark(config.data.benchmark, config.data.folder, config.data.image_size)
    if not benchmark.shared_classes:
        raise InputError(
            f"--benchmark {benchmark.name} has other classes in every split; long-tailed recognition has the same: use "
            "cifar100-lt, imagenet-lt or places-lt, or jobs/evaluate_embedding.py for few-shot episodes"
        )
    splits = dict.fromkeys(["base", config.split, *(["validation"] if config.search else [])])
    sources = {split: benchmark.source(split, cache_dir) for split in splits}  # all before any image is decoded
    tables = {
        split: load_table(source, cache_dir, channels=benchmark.channels, image_size=benchmark.image_size)
        for split, source in sources.items()
    }
    names = tables["base"].class_names
    return LongTailImages(
        benchmark=benchmark, tables=tables, class_names=names, counts_C=tables["base"].class_counts(),
        labels={split: labels_among(table, names, split) for split, table in tables.items()},
        cache_dir=cache_dir, seed=config.seed, gpu=device.type == "cuda",
    )  # fmt: skip


def labels_among(table: ImageTable, class_names: tuple[str, ...], split: str) -> np.ndarray:
    """Return the classes of a table's images as positions in `class_names`; a table lacks classes without images."""
    unknown = [name for name in table.class_names if name not in class_names]
    if unknown:
        raise InputError(
            f"{len(unknown)} of {len(table.class_names)} classes of the {split} images have 0 training images (first: "
            f"'{unknown[0]}'); every class needs at least one"
        )
    position = {name: i for i, name in enumerate(class_names)}
    positions: np.ndarray = np.array([position[name] for name in table.class_names], dtype=np.int64)
    labels: np.ndarray = positions[table.labels]
    return labels


def open_model(config: LongTailEvalConfig, images: LongTailImages, given: str | None, cache_dir: Path) -> LongTailModel:
    """Load a checkpoint and its cosine head.

    Raises:
        InputError: it has no such head, or was trained on other images or on classes that the benchmark has not.
    """
    path = find_checkpoint(given) if given else packaged_checkpoint(images.benchmark, config.backbone)
    spec, report, module = stage_backbone(images.benchmark, config.backbone, path, cache_dir)
    metadata = load_checkpoint(path, module, config.backbone).metadata
    seen_C = seen_classes(path, metadata, images)
    heads = read_heads(path, module)
    if WEIGHT not in heads or SCALE not in heads:
        raise InputError(
            f"checkpoint {path} has no cosine head ({WEIGHT} and {SCALE}; found: {', '.join(heads) or 'none'}); train "
            "one by jobs/pretrain.py --objective cosine"
        )
    weights_CD = heads[WEIGHT].float()
    if weights_CD.ndim != 2 or len(weights_CD) != int(seen_C.sum()) or heads[SCALE].numel() != 1:
        raise InputError(
            f"the head of checkpoint {path} is {tuple(weights_CD.shape)} with a scale {tuple(heads[SCALE].shape)}; "
            f"expected a row for each of {int(seen_C.sum())} classes and a single scale"
        )
    if n_unseen := int((~seen_C).sum()):
        report += f"; {n_unseen} of {len(seen_C)} classes were not seen in training"
    return LongTailModel(
        name=given or path.stem, spec=spec, weights_CD=_spread(weights_CD, seen_C), seen_C=seen_C,
        scale=float(heads[SCALE]), report=report,
    )  # fmt: skip


def seen_classes(path: Path, metadata: Mapping[str, Any], images: LongTailImages) -> Tensor:
    """Return which classes a checkpoint was trained on, (C,) bool: all, or those that its sidecar names.

    The images of these must be the benchmark's own, so that they are decoded alone where the cache lacks them.

    Raises:
        InputError: it was trained on other images, or on classes that the benchmark has not.
    """
    base, names = images.tables["base"], metadata.get("classes")
    trained = metadata.get("identity", {}).get("base_table", base.fingerprint)
    if trained == base.fingerprint:
        return torch.ones(len(base.class_names), dtype=torch.bool)
    other = InputError(
        f"checkpoint {path} was trained on other images ({metadata.get('benchmark')}, table {trained}) than the "
        f"{len(base):,} training images of {images.benchmark.name}; counts and prototypes would not be those of its "
        "head"
    )
    if not isinstance(names, list) or metadata.get("benchmark") != images.benchmark.name:
        raise other
    unknown = [name for name in names if name not in base.class_names]
    if unknown or not names:
        raise InputError(
            f"{len(unknown)} of the {len(names)} classes that checkpoint {path} was trained on are no classes of "
            f"{images.benchmark.name}{f' (first: {unknown[0]!r})' if unknown else ''}; is its sidecar its own?"
        )
    source = images.benchmark.source("base", images.cache_dir).only(names)
    shape = {"channels": images.benchmark.channels, "image_size": images.benchmark.image_size}
    if find_table(images.cache_dir, table_signature(source, **shape)) is None:
        n_bytes = base.images[0].nbytes * int(base.class_counts()[np.isin(base.class_names, names)].sum())
        refuse_full_disk(images.cache_dir, n_bytes, f"the images of the {len(names)} seen classes, decoded,")
        print(f"decoding the images of the {len(names)} seen classes: are they those of {path}?", flush=True)
    part = load_table(source, images.cache_dir, **shape)
    if part.fingerprint != trained:
        raise other
    return torch.tensor([name in part.class_names for name in base.class_names])


def _spread(weights_SD: Tensor, seen_C: Tensor) -> Tensor:
    """Return the weights of every class, (C, D), 0 for those not seen; both orders are that of the names."""
    weights_CD = weights_SD.new_zeros(len(seen_C), weights_SD.shape[1])
    weights_CD[seen_C] = weights_SD
    return weights_CD


def features_of(images: LongTailImages, model: LongTailModel, split: str, n_views: int = 0) -> Tensor:
    """Return the features of a split's images, (N, D), or of views of them, (N, V, D); made by Ray if the cache lacks
    them.
    """
    table, views = images.tables[split], None
    if n_views:
        views = TableViews(n=n_views, seed=images.seed, augmentation=images.benchmark.augmentation)
    path = features_path(images.cache_dir, table, model.spec, images.gpu, views)
    if path.exists():
        bank = open_bank(images.cache_dir, table.fingerprint, path)
    else:
        with ray_session() as session:
            resources = session.resources
            if images.gpu and resources.gpus < 1:
                raise InputError("--device cuda: the Ray cluster has 0 GPUs; add one to it or use --device cpu")
            bank = ensure_table_features(table, model.spec, images.cache_dir, resources, images.gpu, views)
    return bank.take_features(np.arange(len(table)))
