"""What the embedding job evaluates, checked as far as it can be before any feature is computed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rayfs.backbones.registry import n_parameters
from rayfs.datasets.episodes import Episode, Protocol, check_protocol
from rayfs.datasets.image_table import ImageTable, load_table
from rayfs.datasets.registry import Benchmark, open_benchmark, refuse_shared_classes
from rayfs.engine.staged_backbone import StagedBackbone
from rayfs.engine.table_views import TableViews
from rayfs.errors import InputError
from rayfs.experiments.embeddings.flags import EmbeddingEvalConfig
from rayfs.experiments.episodes.experiment import address_episodes, stage_backbone
from rayfs.methods.classifiers.definition import ClassifierSettings
from rayfs.methods.classifiers.registry import classifier_settings
from rayfs.methods.registry import BASELINE
from rayfs.runs.identity import EpisodesIdentity, NetworkIdentity


@dataclass(frozen=True, kw_only=True)
class EmbeddingEval:
    """What is evaluated: one embedding on episodes of some images, with every classifier on the same features."""

    benchmark: Benchmark
    novel: ImageTable
    backbone: StagedBackbone
    views: TableViews | None
    methods: Mapping[str, ClassifierSettings]
    protocol: Protocol
    n_episodes: int
    device: torch.device
    backbone_report: str
    """What was loaded, one line."""

    @property
    def baseline(self) -> str | None:
        """The classifier that gains are against, if it is run at all."""
        return BASELINE if BASELINE in self.methods else None

    def identity(self) -> EpisodesIdentity:
        """Return what makes two runs the same run; classifiers are compared one by one elsewhere."""
        return EpisodesIdentity(
            benchmark=self.benchmark.name, image_size=self.benchmark.image_size, novel_table=self.novel.fingerprint,
            protocol=self.protocol, augmentation=self.benchmark.augmentation,
            backbone=NetworkIdentity(name=self.backbone.name, state_hash=self.backbone.state_hash),
        )  # fmt: skip

    def method_identities(self) -> dict[str, dict[str, Any]]:
        """Return every classifier's configuration as plain values."""
        return {name: asdict(config) for name, config in self.methods.items()}

    def episodes(self) -> list[Episode]:
        """Return the episodes: official ones, or drawn."""
        return address_episodes(self.benchmark, self.novel, self.protocol, self.n_episodes, None)


def prepare_evaluations(config: EmbeddingEvalConfig, cache_dir: Path) -> list[EmbeddingEval]:
    """Open the images, decode those of the split, load the checkpoint; one evaluation for each number of shots. No Ray.

    Raises:
        InputError: anything that cannot work, with the numbers and the fix.
    """
    device = choose_device(config.compute.device)
    benchmark = open_benchmark(config.data.benchmark, config.data.folder, config.data.image_size)
    refuse_shared_classes(benchmark)
    protocols = [
        Protocol(n_way=config.n_way, n_shot=n_shot, n_query=config.n_query, split=config.split, seed=config.seed)
        for n_shot in config.n_shot
    ]
    spec, report, module = stage_backbone(benchmark, config.backbone.name, config.backbone.checkpoint, cache_dir)
    source = benchmark.source(config.split, cache_dir)
    novel = load_table(source, cache_dir, channels=benchmark.channels, image_size=benchmark.image_size)
    for protocol in protocols:
        check_protocol(protocol, novel.class_names, novel.class_counts())
    if not config.support_jitter:
        benchmark = replace(benchmark, augmentation=replace(benchmark.augmentation, jitter=0.0))
    views = TableViews(n=config.support_views, seed=config.view_seed, augmentation=benchmark.augmentation)
    methods = classifier_settings(
        config.classifiers, c=config.c, svm_c=config.svm_c, normalize=config.normalize,
        support_views=config.support_views, view_seed=config.view_seed,
    )  # fmt: skip
    evaluations = [
        EmbeddingEval(
            benchmark=benchmark, novel=novel, backbone=spec, views=views if views.n else None, methods=methods,
            protocol=protocol, n_episodes=config.episodes, device=device,
            backbone_report=f"{spec.name} ({n_parameters(module):,} parameters): {report}",
        )
        for protocol in protocols
    ]  # fmt: skip
    if config.split in benchmark.episodes:  # official ones: they may not be what the flags ask for
        for evaluation in evaluations:
            evaluation.episodes()
    return evaluations


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; 'auto' is a GPU where torch finds one.

    Raises:
        InputError: 'cuda' is asked for and torch finds none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda but torch finds no GPU; use --device cpu, or install torch's CUDA build")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
