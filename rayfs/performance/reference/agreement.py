"""The engine and the naive recipe step by step on the same batches: the same losses, the same predictions."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rayfs.backbones.heads import LinearHead
from rayfs.backbones.regularisation import has_dropout
from rayfs.methods.finetuning.base_rows import base_logits, episode_rows
from rayfs.methods.finetuning.batches import Batch
from rayfs.methods.finetuning.loop import finetune, make_network
from rayfs.methods.frozen import support_classifier
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.label_halluc.solve import hallucinating_step
from rayfs.methods.method import Task, World
from rayfs.performance.reference.backbone import plain_copy
from rayfs.performance.reference.recipe import head_of, naive_network, naive_query_logits, naive_step
from rayfs.randomness import EpisodeRandomness


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far the two are apart."""

    engine_losses: list[tuple[float, float]]
    """Base and support loss before each step."""
    naive_losses: list[tuple[float, float]]
    n_same: int
    """Queries of which both predict the same class, after the last step."""
    n_queries: int

    @property
    def largest_difference(self) -> float:
        """The largest difference of any loss."""
        pairs = zip(self.engine_losses, self.naive_losses, strict=True)
        return max(abs(mine - theirs) for pair in pairs for mine, theirs in zip(*pair, strict=True))


def compare_steps(task: Task, world: World, randomness: EpisodeRandomness, config: LabelHallucSettings) -> Agreement:
    """Finetune by the engine, and beside it by the naive recipe on the engine's batches, labels and initial head.

    Without dropout, which the two draw from different randomness.
    """
    if has_dropout(world.backbone):
        config = replace(config, dropout="off")
    classifier = support_classifier(task, world, randomness, config.support_views, config.c)
    labels_NK = base_logits(world.bank, classifier)
    rows = episode_rows(world.bank, config, randomness, labels_NK)
    network = make_network(task, world, randomness, config, classifier)
    naive, optimizer = naive_network(plain_copy(world.backbone), task.n_way, config)
    assert isinstance(network[1], LinearHead)
    head_of(naive).load_state_dict(network[1].linear.state_dict())
    engine_losses, naive_losses = [], []
    engine_step = hallucinating_step(world, classifier, labels_NK, config)

    def both(trained_part: nn.Sequential, engine_optimizer: torch.optim.Optimizer, batch: Batch) -> Tensor:
        base_x, support_x = batch.base_x.contiguous(), batch.support_x.contiguous()
        soft_labels = labels_NK[batch.base_rows]
        naive_losses.append(naive_step(naive, optimizer, base_x, soft_labels, support_x, batch.support_labels, config))
        losses = engine_step(trained_part, engine_optimizer, batch)
        engine_losses.append((losses[0].item(), losses[1].item()))
        return losses

    solution = finetune(task, world, randomness, config, network, rows, config.base_batch, both)
    naive_logits = naive_query_logits(naive, world.plain(task.query_images).contiguous())
    return Agreement(
        engine_losses=engine_losses, naive_losses=naive_losses, n_queries=len(naive_logits),
        n_same=int((solution.logits.argmax(1) == naive_logits.argmax(1)).sum()),
    )  # fmt: skip
