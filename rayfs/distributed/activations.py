"""Activations of the base images behind the frozen blocks of methods that keep them: which, and made by Ray.

A bank of them is named by all that it depends on, and made once for all episodes and all methods that share it.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rayfs.datasets.augmentation import Augmentation
from rayfs.datasets.image_table import ImageTable
from rayfs.distributed.session import Resources
from rayfs.distributed.table_features import ensure_table_features, features_path
from rayfs.engine.disk import refuse_full_disk
from rayfs.engine.staged_backbone import StagedBackbone
from rayfs.engine.table_views import TableViews
from rayfs.methods.definition import MethodSettings
from rayfs.methods.registry import needs_of

Kept = tuple[int, int]
"""Frozen blocks and views."""


def kept_activations(methods: Mapping[str, MethodSettings]) -> list[Kept]:
    """Return which activations of base images the methods keep, each once."""
    return list(
        dict.fromkeys(kept for settings in methods.values() if (kept := needs_of(settings).activations) is not None)
    )


def ensure_activations(
    table: ImageTable, spec: StagedBackbone, methods: Mapping[str, MethodSettings], augmentation: Augmentation,
    seed: int, cache_dir: Path, resources: Resources, gpu: bool,
) -> dict[Kept, str]:  # fmt: skip
    """Return the files of the activations that `methods` keep of the base images, made if they are missing.

    Arguments:
        seed: root seed of the views.

    Raises:
        InputError: the cache has no room for them.
    """
    paths = {}
    for kept in kept_activations(methods):
        n_blocks, n_views = kept
        blocks = replace(spec, n_blocks=n_blocks)
        views = TableViews(n=n_views, seed=seed, augmentation=augmentation)
        if not features_path(cache_dir, table, blocks, gpu, views).exists():
            n_bytes = len(table) * kept_bytes(spec, kept)
            what = f"{n_views} views behind {n_blocks} frozen blocks"
            refuse_full_disk(cache_dir, n_bytes, what, "lower --frozen-views, freeze more (--frozen-blocks), ")
            print(f"activations to keep: {n_bytes / 1e9:.2f} GB in {cache_dir}", flush=True)
        paths[kept] = str(ensure_table_features(table, blocks, cache_dir, resources, gpu, views).path)
    return paths


def kept_bytes(spec: StagedBackbone, kept: Kept) -> int:
    """Return the bytes that are kept of one base image."""
    return np.dtype(np.float16).itemsize * math.prod(activation_shape(spec, kept))


def activation_shape(spec: StagedBackbone, kept: Kept) -> tuple[int, ...]:
    """Return (views, channels, height, width): what is kept of one base image behind frozen blocks.

    Raises:
        InputError: the backbone cannot be split.
    """
    n_blocks, n_views = kept
    first = replace(spec, n_blocks=n_blocks).load(torch.device("cpu"))
    with torch.inference_mode():
        return n_views, *first(torch.zeros(1, spec.channels, spec.image_size, spec.image_size)).shape[1:]
