"""Activations of the base images behind the frozen blocks of methods that keep them: which, and made by Ray.

A bank of them is named by all that it depends on, and made once for all episodes and all methods that share it.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rayfs.benchmarks.augmentation import Augmentation
from rayfs.benchmarks.tables import ImageTable
from rayfs.distributed.backbone_spec import BackboneSpec
from rayfs.distributed.runtime import Resources
from rayfs.distributed.table_features import ensure_table_features
from rayfs.engine.table_views import TableViews
from rayfs.methods.configs import FinetuneConfig, MethodConfig, SupportOnlyConfig

Kept = tuple[int, int]
"""Frozen blocks and views."""


def kept_activations(methods: Mapping[str, MethodConfig]) -> list[Kept]:
    """Return which activations of base images the methods keep, each once."""
    return list(
        dict.fromkeys(
            (config.frozen_blocks, config.frozen_views)
            for config in methods.values()
            if isinstance(config, FinetuneConfig) and not isinstance(config, SupportOnlyConfig) and config.frozen_views
        )
    )


def ensure_activations(
    table: ImageTable, spec: BackboneSpec, methods: Mapping[str, MethodConfig], augmentation: Augmentation, seed: int,
    cache_dir: Path, resources: Resources, gpu: bool,
) -> dict[Kept, str]:  # fmt: skip
    """Return the files of the activations that `methods` keep of the base images, made if they are missing.

    Arguments:
        seed: root seed of the views.
    """
    paths = {}
    for n_blocks, n_views in kept_activations(methods):
        views = TableViews(n=n_views, seed=seed, augmentation=augmentation)
        bank = ensure_table_features(table, replace(spec, n_blocks=n_blocks), cache_dir, resources, gpu, views)
        paths[n_blocks, n_views] = str(bank.path)
    return paths
