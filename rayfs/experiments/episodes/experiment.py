"""An experiment: everything a run consists of, checked as far as it can be before the first worker starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from rayfs.backbones.checkpoints import load_checkpoint, save_checkpoint
from rayfs.backbones.packaged import best_packaged, find_checkpoint
from rayfs.backbones.registry import blocks, create_backbone, n_parameters
from rayfs.backbones.regularisation import has_dropout
from rayfs.backbones.split import split
from rayfs.backbones.state import state_hash
from rayfs.datasets.episode_file import read_episode_file, write_episode_file
from rayfs.datasets.episodes import Episode, Protocol, check_protocol, draw_episode
from rayfs.datasets.image_table import ImageTable, load_table
from rayfs.datasets.registry import Benchmark
from rayfs.datasets.sources import Source
from rayfs.engine.staged_backbone import StagedBackbone
from rayfs.errors import InputError
from rayfs.methods.definition import MethodSettings
from rayfs.methods.finetuning.base_rows import n_chosen
from rayfs.methods.registry import BASELINE, needs_of
from rayfs.provenance import git_commit, versions
from rayfs.randomness import torch_generator
from rayfs.runs.identity import BaseImages, EpisodesIdentity, NetworkIdentity


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is run: a benchmark's episodes, with some methods, from one frozen backbone."""

    benchmark: Benchmark
    base: Source
    n_base: int
    novel: ImageTable
    protocol: Protocol
    episodes: list[Episode]
    methods: Mapping[str, MethodSettings]
    backbone: StagedBackbone
    checkpoint_report: str
    n_parameters: int

    @property
    def baseline(self) -> str | None:
        """The method that gains are against, if it is run at all."""
        return BASELINE if BASELINE in self.methods else None

    def identity(self) -> EpisodesIdentity:
        """Return what makes two runs the same run; methods are compared one by one elsewhere."""
        return EpisodesIdentity(
            benchmark=self.benchmark.name, image_size=self.benchmark.image_size,
            base=BaseImages(classes=self.base.class_names, n_images=self.n_base),
            novel_table=self.novel.fingerprint, protocol=self.protocol, augmentation=self.benchmark.augmentation,
            backbone=NetworkIdentity(name=self.backbone.name, state_hash=self.backbone.state_hash),
        )  # fmt: skip


def prepare_experiment(
    *,
    benchmark: Benchmark,
    protocol: Protocol,
    n_episodes: int,
    manifest: Path | None,
    methods: Mapping[str, MethodSettings],
    backbone: str,
    checkpoint: Path | None,
    cache_dir: Path,
) -> Experiment:
    """Open the data, decode the novel classes, load the checkpoint and address the episodes; no Ray yet.

    Raises:
        InputError: anything that cannot work, with the numbers and the fix.
    """
    base = benchmark.source("base", cache_dir)
    base_counts = np.array(list(base.class_counts().values()))
    check_base_batch(methods, base_counts)
    source = benchmark.source(protocol.split, cache_dir)
    novel = load_table(source, cache_dir, channels=benchmark.channels, image_size=benchmark.image_size)
    check_protocol(protocol, novel.class_names, novel.class_counts())
    spec, report, module = stage_backbone(benchmark, backbone, checkpoint, cache_dir)
    check_backbone(methods, module, backbone)
    return Experiment(
        benchmark=benchmark, base=base, n_base=int(base_counts.sum()), novel=novel, protocol=protocol, methods=methods,
        episodes=address_episodes(benchmark, novel, protocol, n_episodes, manifest),
        backbone=spec, checkpoint_report=report, n_parameters=n_parameters(module),
    )  # fmt: skip


def check_base_batch(methods: Mapping[str, MethodSettings], class_counts: np.ndarray) -> None:
    """Refuse mini-batches larger than what a method uses of the base set, and more joint queries than half of it."""
    most = int(class_counts.sum()) // 2
    for name, settings in methods.items():
        needs = needs_of(settings)
        if needs.set_aside > most:
            raise InputError(
                f"--joint-queries of {name} is {needs.set_aside} but the base set has {class_counts.sum()} images; set "
                f"aside at most half of them, {most}"
            )
        images = needs.base_images
        if images is not None and images.per_step > (n_used := n_chosen(class_counts, images)):
            raise InputError(
                f"--base-batch is {images.per_step} but {name} uses {n_used} base images of {len(class_counts)} "
                f"classes; lower it to {n_used} or less, or use more base images"
            )


def check_backbone(methods: Mapping[str, MethodSettings], backbone: nn.Module, name: str) -> None:
    """Refuse settings that this backbone cannot have, or that change nothing with it."""
    n_blocks = len(blocks(backbone))
    for method, settings in methods.items():
        steps = needs_of(settings).finetuning
        if steps is None:
            continue
        if steps.without_dropout and not has_dropout(backbone):
            raise InputError(f"--dropout off of {method} changes nothing: {name} has no dropout; drop it")
        if steps.frozen_blocks >= n_blocks:
            raise InputError(
                f"--frozen-blocks of {method} is {steps.frozen_blocks} but {name} has {n_blocks} blocks; at most "
                f"{n_blocks - 1} can be frozen ({BASELINE} freezes all)"
            )
        if steps.kept_views:
            split(backbone, steps.frozen_blocks)  # refuses a backbone of which no activations can be kept


def address_episodes(
    benchmark: Benchmark, novel: ImageTable, protocol: Protocol, n_episodes: int, manifest: Path | None
) -> list[Episode]:
    """Return the episodes: official ones, those of `manifest` if that file exists, else drawn (and written to it)."""
    official = benchmark.episodes.get(protocol.split)
    if official is not None and manifest is not None and manifest.exists():
        raise InputError(
            f"benchmark '{benchmark.name}' has official episodes; --manifest {manifest} cannot replace them"
        )
    written = official or (manifest if manifest is not None and manifest.exists() else None)
    if written is not None:
        episodes = read_episode_file(written, protocol, novel.fingerprint, len(novel))
        if n_episodes > len(episodes):
            raise InputError(
                f"--episodes is {n_episodes} but {written.name} holds {len(episodes)}; lower it to {len(episodes)}"
            )
        episodes = episodes[:n_episodes]
    else:
        episodes = [draw_episode(novel.offsets, novel.fingerprint, protocol, i) for i in range(n_episodes)]
    if manifest is not None and not manifest.exists():
        try:
            write_episode_file(manifest, episodes, protocol, novel.fingerprint, novel.class_names)
        except OSError as error:
            raise InputError(f"--manifest {manifest}: cannot write it ({error.strerror})") from None
    return episodes


def stage_backbone(
    benchmark: Benchmark, name: str, checkpoint: Path | None, cache_dir: Path
) -> tuple[StagedBackbone, str, nn.Module]:
    """Load the checkpoint and put its tensors where every worker finds them.

    Returns:
        The workers' spec, what was matched (one line), and the module.

    Raises:
        InputError: there is no checkpoint, or it does not fit the backbone.
    """
    path = find_checkpoint(checkpoint) if checkpoint else packaged_checkpoint(benchmark, name)
    module = create_backbone(name, benchmark.channels, benchmark.image_size, torch_generator(0, "backbone"))
    report = load_checkpoint(path, module, name)
    found = state_hash(module)
    staged = cache_dir / "backbones" / f"{name}-{found}.safetensors"
    if not staged.exists():
        staged.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(staged, module, {"source": str(path)})
    spec = StagedBackbone(
        name=name, channels=benchmark.channels, image_size=benchmark.image_size, checkpoint=str(staged),
        state_hash=found, mean=benchmark.mean, std=benchmark.std,
    )  # fmt: skip
    return spec, report.describe(), module


def packaged_checkpoint(benchmark: Benchmark, name: str) -> Path:
    """Return the embedding of the package that fits and is best on validation classes.

    Raises:
        InputError: there is none for this benchmark and backbone.
    """
    trained_on = benchmark.name.removesuffix("-one-shot")
    path = best_packaged(name, trained_on, benchmark.channels, benchmark.image_size)
    if path is None:
        raise InputError(
            f"no embedding for benchmark '{benchmark.name}' at {benchmark.image_size} px with backbone '{name}' comes "
            "with the package; give --checkpoint FILE, or train one: python jobs/pretrain.py "
            f"--benchmark {benchmark.name} --backbone {name} --out FILE.safetensors"
        )
    return path


def session_information(command: list[str]) -> dict[str, Any]:
    """Return what is worth knowing about this process: the command, versions and the code's git commit."""
    return {"command": command, "versions": versions(), "git_commit": git_commit()}
