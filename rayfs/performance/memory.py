"""Memory that a large base set takes: banked and sampled by production code, what each process holds of it meanwhile.

The images are low-resolution noise, enlarged, as JPEG files in Parquet: by default as many as tieredImageNet's base set
has. All else is what a run does: Ray Data reads, decodes and embeds, workers map the result and solve episodes.
"""

import io
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rayfs.datasets.episodes import Protocol
from rayfs.datasets.image_table import cache_folder
from rayfs.datasets.registry import IMAGENET_MEAN, IMAGENET_STD, Benchmark, photo_augmentation
from rayfs.datasets.sources import Source, open_parquet
from rayfs.distributed.base_bank import ensure_bank
from rayfs.distributed.pool import PoolSize
from rayfs.distributed.processes import Process, answers, ask_all, processes_of
from rayfs.distributed.session import ray_session
from rayfs.distributed.table_features import ensure_table_features
from rayfs.durable_files import written_durably
from rayfs.engine.bank import BaseBank
from rayfs.engine.host_memory import Held, memory_limit, page_cache_bytes, tree_memory
from rayfs.engine.machine import n_cores
from rayfs.errors import InputError
from rayfs.experiments.episodes.experiment import Experiment, prepare_experiment
from rayfs.experiments.episodes.run import worker_spec
from rayfs.methods.finetuning.base_rows import RowSampler
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.variants import resolve
from rayfs.performance.bench import random_checkpoint
from rayfs.performance.benchmark_flags import BenchmarkConfig
from rayfs.performance.timings import write_rows
from rayfs.randomness import torch_generator
from rayfs.reports.text_table import NONE, aligned
from rayfs.workers.episode_worker import EpisodeWorker

N_CLASSES = 351
"""Of tieredImageNet's base set; fewer where there are few images."""

NOVEL_CLASSES, NOVEL_IMAGES = 8, 200

IMAGE_SIZE = 84

GRID = 6
"""Pixels a side of the noise that is enlarged."""

SHARD_IMAGES = 16_384

SECOND_BACKBONE = "conv4-32"
"""Its features are made of the finished table, as for every backbone after the first."""

SAMPLE_S = 0.5

LEAST_S = 1.0
"""Shorter phases have no speed: nothing was left to do, or not enough."""


@dataclass(kw_only=True)
class Phase:
    """What one phase took, and the most that the processes held in it at a time, in bytes."""

    phase: str
    n_images: int
    seconds: float = 0.0
    own_bytes: int = 0
    """Of all processes together; nothing that the system could drop."""
    shm_bytes: int = 0
    worker_own_bytes: int = 0
    """Of the episode worker that held most."""
    worker_mapped_bytes: int = 0
    """Pages of files that one episode worker saw."""
    mapped_bytes: int = 0
    """Pages of files that any process saw, each counted once."""
    page_cache_bytes: int = 0
    """Of this container, or of the machine where there is no limit."""
    largest: str = ""
    """Which processes had how much of their own when all together had most."""

    def see(self, root: int) -> None:
        """Look at a process and its descendants now."""
        held = tree_memory(root)
        workers = [process for process in held if SamplingWorker.__name__ in process.name]
        now = {
            "own_bytes": sum(process.own_bytes for process in held),
            "shm_bytes": sum(process.shm_bytes for process in held),
            "mapped_bytes": sum(process.file_bytes for process in held),
            "worker_own_bytes": max((process.own_bytes for process in workers), default=0),
            "worker_mapped_bytes": max((process.mapped_bytes for process in workers), default=0),
            "page_cache_bytes": page_cache_bytes(),
        }
        if now["own_bytes"] > self.own_bytes:
            self.largest = by_name(held)
        for name, n_bytes in now.items():
            setattr(self, name, max(getattr(self, name), n_bytes))


def by_name(held: Sequence[Held]) -> str:
    """Return what the processes of each name have of their own, the most first; what is below 50 MB is left out."""
    groups: dict[str, list[int]] = defaultdict(list)
    for process in held:
        groups[process.name.split("(")[0]].append(process.own_bytes)
    ordered = sorted(groups.items(), key=lambda group: -sum(group[1]))
    shown = [(name, sizes) for name, sizes in ordered if sum(sizes) >= 50e6]
    return ", ".join(f"{len(sizes)} {name} {sum(sizes) / 1e9:.2f}" for name, sizes in shown)


class SamplingWorker(EpisodeWorker):
    """The worker of every run, which can also do nothing but gather images."""

    def gather(self, n_images: int, batch: int, seed: int) -> None:
        """Copy random base images in mini-batches, none twice before all were there."""
        assert self._world is not None, "prepare the worker first"
        table = self._world.bank.table
        sampler = RowSampler(len(table), batch, torch_generator(seed, "gathered rows"))
        for _ in range(n_images // batch):
            table.take(sampler.draw().numpy())


def measure_memory(config: BenchmarkConfig) -> None:
    """Bank a synthetic base set and sample it; print and write what each phase held."""
    cache_dir = cache_folder()
    with ray_session() as session, TemporaryDirectory() as folder:
        if not session.is_private:
            raise InputError("--measure memory looks at the processes of a Ray of its own; set RAY_ADDRESS=local")
        experiment, other = synthetic_experiments(config, cache_dir, Path(folder))
        resources = session.resources
        phases: list[Phase] = []
        n_images = experiment.n_base
        with looked_at("bank", n_images, phases):
            bank = ensure_bank(experiment.base, experiment.backbone, cache_dir, resources, gpu=False)
        with looked_at(f"features of {SECOND_BACKBONE}", n_images, phases):
            ensure_table_features(bank.table, other.backbone, cache_dir, resources, gpu=False)
        n_workers = config.workers or n_cores()
        size = PoolSize(workers=n_workers, cpus_per_worker=min(1, resources.cpus / n_workers), gpus_per_worker=0)
        spec = replace(worker_spec(experiment, bank, {}, size, cache_dir), n_threads=1)
        with processes_of(SamplingWorker, [spec], n=n_workers, cpus=size.cpus_per_worker) as workers:
            measure_workers(experiment, workers, phases)
    print(memory_table(phases, bank, n_workers), flush=True)
    if config.out is not None:
        write_rows(config.out / "memory.parquet", [{"limit_bytes": memory_limit(), **asdict(one)} for one in phases])


def measure_workers(experiment: Experiment, workers: Sequence[Process], phases: list[Phase]) -> None:
    """Let one worker, then all of them, gather as many images as there are, and all solve episodes.

    Raises:
        RuntimeError: an episode failed.
    """
    n_images, batch, n_workers = experiment.n_base, label_halluc(experiment).base_batch, len(workers)
    for asked in [workers[:1]] + ([workers] if n_workers > 1 else []):
        ask_all(asked, "prepare")
        with looked_at(f"gathering, {len(asked)} of {n_workers} workers", n_images * len(asked), phases):
            answers([worker.start("gather", n_images, batch, seed) for seed, worker in enumerate(asked)])
    episodes, methods = experiment.episodes, list(experiment.methods)
    n_seen = len(episodes) * label_halluc(experiment).steps * batch
    with looked_at(f"{len(episodes)} episodes, {n_workers} workers", n_seen, phases):
        given = enumerate(episodes)
        rows = answers([workers[i % n_workers].start("run", episode, methods, 1) for i, episode in given])
    failed = [row for (row,) in rows if row.status == "failed"]
    if failed:
        raise RuntimeError(failed[0].error)


@contextmanager
def looked_at(name: str, n_images: int, phases: list[Phase]) -> Iterator[None]:
    """Time the block, and look at all processes all the while."""
    phase, ended = Phase(phase=name, n_images=n_images), threading.Event()

    def look() -> None:
        while not ended.wait(SAMPLE_S):
            phase.see(os.getpid())

    thread, started = threading.Thread(target=look, daemon=True), time.perf_counter()
    thread.start()
    try:
        yield
    finally:
        phase.seconds = time.perf_counter() - started
        ended.set()
        thread.join()
    phase.see(os.getpid())
    phases.append(phase)


def memory_table(phases: Sequence[Phase], bank: BaseBank, n_workers: int) -> str:
    """Return what was seen, and what it says of the files."""
    header = [
        "GB, at the most", "s", "images/s", "processes'\nown", "object\nstore", "files\nmapped", "page\ncache",
        "a worker's\nown", "a worker\nmaps",
    ]  # fmt: skip

    def cells(one: Phase) -> list[str]:
        held = (
            one.own_bytes, one.shm_bytes, one.mapped_bytes, one.page_cache_bytes, one.worker_own_bytes,
            one.worker_mapped_bytes,
        )  # fmt: skip
        return [
            one.phase, f"{one.seconds:.1f}", f"{one.n_images / one.seconds:,.0f}" if one.seconds > LEAST_S else NONE,
            *(f"{n_bytes / 1e9:.2f}" if n_bytes else NONE for n_bytes in held),
        ]  # fmt: skip

    files = (bank.table.images.nbytes + bank.features.nbytes) / 1e9
    peak = max(one.own_bytes + one.shm_bytes for one in phases) / 1e9
    largest = max(phases, key=lambda one: one.own_bytes)
    return (
        f"memory, {len(bank.table):,} images of {bank.table.images.shape[1]} px\n"
        f"{aligned([header, *map(cells, phases)])}\n"
        f"images and features are files of {files:.2f} GB, which {n_workers} workers map; the limit here is "
        f"{memory_limit() / 1e9:.2f} GB, of which processes and object store took {peak:.2f} GB at most\n"
        f"of their own in the phase '{largest.phase}', GB: {largest.largest}"
    )


def label_halluc(experiment: Experiment) -> LabelHallucSettings:
    """Return the settings of the one method."""
    return cast(LabelHallucSettings, experiment.methods["label-halluc"])


def synthetic_experiments(config: BenchmarkConfig, cache_dir: Path, folder: Path) -> tuple[Experiment, Experiment]:
    """Return episodes on synthetic images, with the backbone asked for and with `SECOND_BACKBONE`."""
    size = config.data.image_size or IMAGE_SIZE
    base = synthetic_source(cache_dir, "base", config.images, min(N_CLASSES, config.images), size)
    novel = synthetic_source(cache_dir, "novel", NOVEL_IMAGES, NOVEL_CLASSES, size)
    benchmark = Benchmark(
        name="synthetic", image_size=size, channels=3, mean=IMAGENET_MEAN, std=IMAGENET_STD,
        augmentation=photo_augmentation(size), sources={"base": lambda _: base, "test": lambda _: novel},
    )  # fmt: skip
    settings: dict[str, Any] = {"steps": config.measured_steps}
    method: LabelHallucSettings = resolve("label-halluc", "folder", 5, 5, settings)
    method = replace(method, base_batch=min(method.base_batch, config.images))

    def prepared(backbone: str) -> Experiment:
        return prepare_experiment(
            benchmark=benchmark, protocol=Protocol(n_way=5, n_shot=5, n_query=15, split="test"),
            n_episodes=config.rounds, manifest=None, methods={"label-halluc": method}, backbone=backbone,
            checkpoint=random_checkpoint(benchmark, backbone, folder), cache_dir=cache_dir,
        )  # fmt: skip

    return prepared(config.backbone.name), prepared(SECOND_BACKBONE)


def synthetic_source(cache_dir: Path, name: str, n_images: int, n_classes: int, size: int) -> Source:
    """Return a data set of noise, written if the cache lacks it; neighbours in its files are of different classes."""
    folder = cache_dir / "synthetic" / f"{name}-{n_images}-{n_classes}-{size}"
    names = [f"class {label:03d}" for label in range(n_classes)]
    for start in range(0, n_images, SHARD_IMAGES):
        path = folder / f"{start:09d}.parquet"
        if not path.exists():
            n = min(SHARD_IMAGES, n_images - start)
            generator = np.random.Generator(np.random.Philox(key=[start, len(name)]))
            noise = generator.integers(0, 256, (n, GRID, GRID, 3), dtype=np.uint8)
            labels = np.arange(start, start + n) % n_classes
            with written_durably(path) as temporary:
                pq.write_table(_shard([_enlarged(one, size) for one in noise], labels, names), temporary)
    return open_parquet(sorted(folder.glob("*.parquet")), "label", lambda _: True)


def _enlarged(noise: np.ndarray, size: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((size, size), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _shard(encoded: list[bytes], labels: np.ndarray, names: list[str]) -> pa.Table:
    images = pa.StructArray.from_arrays([pa.array(encoded, pa.binary())], ["bytes"])
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table({"image": images, "label": labels}).replace_schema_metadata(metadata)
