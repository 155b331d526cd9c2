"""What has to be made before the first episode of a run, and how long that would take: for plans."""

import itertools
import time
from dataclasses import replace
from pathlib import Path

import torch

from rayfs.datasets.image_table import find_table, table_signature
from rayfs.datasets.images import decode
from rayfs.distributed.activations import kept_activations
from rayfs.distributed.table_features import features_path
from rayfs.engine.process import configure_process
from rayfs.engine.table_views import TableViews, embed_range, n_ranges
from rayfs.experiments.episodes.experiment import Experiment

RAY_START_S = 15.0
"""Ray, its workers, and what they import and load; 10 to 15 s on two cores."""

DATA_START_S = 8.0
"""A pipeline of Ray Data until its first batch."""

TIMED_IMAGES = 256


def preparation_seconds(experiment: Experiment, cache_dir: Path, places: int, gpu: bool) -> dict[str, float]:
    """Return the seconds of all that comes before the first episode, by name; what the cache has costs nothing.

    Times a batch of novel images here, which stand for base images, and decodes some of the latter.

    Arguments:
        places: processes that work at once.
    """
    spec, n_base = experiment.backbone, experiment.n_base
    signature = table_signature(experiment.base, channels=spec.channels, image_size=spec.image_size)
    table = find_table(cache_dir, signature)
    seconds = {"Ray's start": RAY_START_S}

    def pass_s(n_blocks: int | None, views: TableViews | None) -> float:
        return DATA_START_S + _range_s(experiment, n_blocks, views, gpu) * n_ranges(n_base) / places

    if table is None:
        seconds["base bank"] = pass_s(None, None) + _decode_s(experiment) * n_base / places
    elif not features_path(cache_dir, table, spec, gpu).exists():
        seconds["base bank"] = pass_s(None, None)
    for n_blocks, n_views in kept_activations(experiment.methods):
        views = TableViews(n=n_views, seed=experiment.protocol.seed, augmentation=experiment.benchmark.augmentation)
        blocks = replace(spec, n_blocks=n_blocks)
        if table is None or not features_path(cache_dir, table, blocks, gpu, views).exists():
            seconds[f"{n_views} views behind {n_blocks} blocks"] = pass_s(n_blocks, views)
    return seconds


def _range_s(experiment: Experiment, n_blocks: int | None, views: TableViews | None, gpu: bool) -> float:
    """Return the seconds of one range of a table, the second time; of processor time on a CPU."""
    clock = time.perf_counter if gpu else time.process_time
    configure_process(1)  # as the actors do
    device = torch.device("cuda" if gpu else "cpu")
    backbone = replace(experiment.backbone, n_blocks=n_blocks).load(device)
    spec = experiment.backbone
    for _ in range(2):
        started = clock()
        embed_range(experiment.novel, 0, backbone, spec.mean, spec.std, device, views)
    return clock() - started


def _decode_s(experiment: Experiment) -> float:
    """Return the seconds to read and decode one base image; the first one, which opens the file, is left out."""
    images = experiment.base.read()
    spec = experiment.backbone
    next(images)
    started = time.process_time()
    n_decoded = 0
    for image in itertools.islice(images, TIMED_IMAGES):
        decode(image.encoded, channels=spec.channels, image_size=spec.image_size, where=image.where)
        n_decoded += 1
    return (time.process_time() - started) / max(1, n_decoded)
