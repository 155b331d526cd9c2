"""The actor that solves episodes: one process, one device, every episode from the same frozen world."""

import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rayfs.datasets.augmentation import Augmentation
from rayfs.datasets.episodes import Episode, Protocol
from rayfs.datasets.image_table import ImageTable, open_table
from rayfs.engine.bank import BaseBank, open_bank
from rayfs.engine.process import configure_process
from rayfs.engine.staged_backbone import StagedBackbone
from rayfs.engine.stages import stage
from rayfs.errors import InputError
from rayfs.hashing import stable_hash
from rayfs.methods.definition import MethodSettings
from rayfs.methods.method import Task, World
from rayfs.methods.registry import create_method, needs_of
from rayfs.randomness import EpisodeRandomness
from rayfs.runs.rows import Row

OWN_SHARE = 0.95
"""Of its part of a GPU, that tensors of a worker may take where several share one; the rest is CUDA's own."""


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """All a worker needs, small and plain: Ray gives it again to every restarted actor."""

    cache_dir: str
    base_fingerprint: str
    features_path: str
    activations: dict[tuple[int, int], str]
    """(frozen blocks, views) -> file of base activations."""
    novel_fingerprint: str
    backbone: StagedBackbone
    augmentation: Augmentation
    protocol: Protocol
    methods: dict[str, MethodSettings]
    n_threads: int
    gpus: float
    """Of a worker; 0: none, less than 1: several workers share one."""
    networks: Mapping[str, StagedBackbone] = field(default_factory=dict)
    """Checkpoint, as `Needs.networks` names it -> a learnt network that methods use beside the backbone."""

    @property
    def gpu(self) -> bool:
        """Whether episodes are solved on a GPU."""
        return self.gpus > 0


class EpisodeWorker:
    """Solves one episode at a time. Becomes an actor through `ray.remote`; also runs without Ray."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec  # nothing that can fail happens here: Ray never restarts an actor whose constructor raised
        self._world: World | None = None

    def prepare(self) -> str:
        """Load the world; call before the first episode, after a restart, and after an episode that failed.

        A process that has lost its GPU ends here: every later call would fail, and a new process may use it again.

        Returns:
            Where the worker runs.

        Raises:
            InputError: this node's cache lacks the tables or features.
        """
        spec = self._spec
        if self._world is not None:
            if gpu_is_lost(self._world.device):
                os._exit(1)
            return _whereabouts()
        if spec.gpu and not torch.cuda.is_available():
            raise InputError(
                "Ray offers a GPU but this torch has no CUDA; install its CUDA build or use --gpus-per-worker 0"
            )
        configure_process(spec.n_threads, Path(spec.cache_dir))
        # What classifiers and optimisers import when they are first used: no episode is to pay for it.
        import sklearn.linear_model  # noqa: F401

        if any(needs_of(settings).finetuning for settings in spec.methods.values()):
            from torch import _dynamo  # noqa: F401
        device = torch.device("cuda" if spec.gpu else "cpu")
        if 0 < spec.gpus < 1:
            torch.cuda.set_per_process_memory_fraction(OWN_SHARE * spec.gpus)
        cache_dir = Path(spec.cache_dir)
        self._novel = open_table(cache_dir, spec.novel_fingerprint)
        bank = open_bank(cache_dir, spec.base_fingerprint, Path(spec.features_path)).on(device, min(1.0, spec.gpus))
        refuse_features_on_the_host(spec.methods, bank, device)
        self._world = World(
            backbone=spec.backbone.load(device),
            bank=bank,
            augmentation=spec.augmentation,
            mean=spec.backbone.mean,
            std=spec.backbone.std,
            device=device,
            activations={
                kept: open_bank(cache_dir, spec.base_fingerprint, Path(path)) for kept, path in spec.activations.items()
            },
            networks={name: network.load(device) for name, network in spec.networks.items()},
        )
        return _whereabouts()

    def run(self, episode: Episode, methods: list[str], attempt: int) -> list[Row]:
        """Solve `episode` with each of `methods`; a method that raises gives a failed row with its traceback."""
        return [self._solve(episode, method, attempt) for method in methods]

    def _solve(self, episode: Episode, method: str, attempt: int) -> Row:
        assert self._world is not None, "prepare the worker first"
        started = time.perf_counter()
        config, protocol = self._spec.methods[method], self._spec.protocol
        known: dict[str, Any] = {
            "episode": episode.index, "method": method, "attempt": attempt, "episode_hash": episode.hash,
            "config_hash": stable_hash(config), "device": device_name(self._world.device),
            "node": os.uname().nodename, "worker": str(os.getpid()),
        }  # fmt: skip
        try:
            randomness = EpisodeRandomness(seed=protocol.seed, index=episode.index)
            with stage("sampling"):
                task = make_task(self._novel, episode)
            solution = create_method(config).solve(task, self._world, randomness)
            labels = np.repeat(np.arange(protocol.n_way), protocol.n_query)
            predictions = predict(solution.logits, len(labels), protocol.n_way)
            top, joint = solution.top_base, solution.joint
        except Exception:
            return Row(status="failed", seconds=time.perf_counter() - started, error=traceback.format_exc(), **known)
        return Row(
            status="ok", accuracy=float((predictions == labels).mean()), predictions=predictions.tolist(),
            labels=labels.tolist(), steps=solution.steps,
            loss_base=solution.loss_base, loss_support=solution.loss_support,
            top_base_rows=top.rows.flatten().tolist() if top else [],
            top_base_probabilities=top.probabilities.flatten().tolist() if top else [],
            joint_novel_accuracy=float((joint.novel_predictions.numpy() == labels).mean()) if joint else None,
            joint_base_accuracy=float((joint.base_predictions == joint.base_labels).double().mean()) if joint else None,
            seconds=time.perf_counter() - started, error="", **known,
        )  # fmt: skip


def gpu_is_lost(device: torch.device) -> bool:
    """Tell whether an error has left this process without its GPU: an illegal access does, lack of memory not."""
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
        except RuntimeError:
            return True
    return False


def refuse_features_on_the_host(methods: Mapping[str, MethodSettings], bank: BaseBank, device: torch.device) -> None:
    """Refuse steps that a GPU replays and that read base features, where the GPU has no room for these."""
    for name, settings in methods.items():
        steps, images = needs_of(settings).finetuning, needs_of(settings).base_images
        reads = steps is not None and steps.replayed and images is not None and images.features_in_steps
        if device.type == "cuda" and reads and bank.device_features is None:
            raise InputError(
                f"{name} reads base features in steps that are replayed, but their {bank.features.nbytes / 1e9:.1f} GB "
                "take too much of the GPU to stay there; give it --execution eager, or fewer workers a GPU"
            )


def make_task(novel: ImageTable, episode: Episode) -> Task:
    """Return what a method sees of `episode`: copies of its images."""
    n_way, n_shot = episode.support_ids.shape
    return Task(
        support_images=novel.take(episode.support_ids.ravel()),
        support_labels=torch.arange(n_way).repeat_interleave(n_shot),
        query_images=novel.take(episode.query_ids.ravel()),
        n_way=n_way,
    )


def predict(logits: torch.Tensor, n_queries: int, n_way: int) -> np.ndarray:
    """Return the class of the largest logit of each query, (n_queries,) int64.

    Raises:
        ValueError: the logits are not (n_queries, n_way).
        FloatingPointError: some are not finite.
    """
    if logits.shape != (n_queries, n_way):
        raise ValueError(f"logits have shape {tuple(logits.shape)}, expected {(n_queries, n_way)}")
    if not torch.isfinite(logits).all():
        raise FloatingPointError("some logits are not finite; lower the learning rates")
    return logits.argmax(dim=1).cpu().numpy()


def _whereabouts() -> str:
    return f"{os.uname().nodename}/{os.getpid()}"


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or 'cpu'."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
