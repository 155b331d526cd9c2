"""Associative alignment once more: three descents a step, on related base images."""

import copy

from oracle_arithmetic import naive_centroid_loss, naive_cross_entropy
from oracle_base_rows import naive_related
from oracle_finetuning import Batch, Episode, Student, Trace, finetuned
from oracle_pseudo_labels import likeliest_classes
from torch import Tensor

from rayfs.methods.assoalign import AssoAlignSettings


def assoalign_oracle(episode: Episode) -> tuple[Trace, Tensor]:
    """Return the trace and the logits of the queries."""
    config, teacher, table = episode.config, episode.teacher(), episode.world.bank.table
    assert isinstance(config, AssoAlignSettings)
    guesses = likeliest_classes(episode, teacher, list(range(len(table))))
    labels = [int(label) for label in table.labels]
    related = naive_related(guesses, labels, episode.task.n_way, config.related_classes)

    def one_step(student: Student, batch: Batch) -> list[float]:
        base_labels = [related[row] for row in batch.rows]
        if config.centroid_alignment == "on":  # the base images first: both passes move the running statistics
            base, support = student.backbone(batch.base_x), student.backbone(batch.support_x)
            loss = naive_centroid_loss(base, base_labels, support, batch.labels)
            student.descend(student.gradients(loss, "backbone."))
        base = copy.deepcopy(student.backbone).eval()(batch.base_x).detach()
        ce_base = naive_cross_entropy(student.logits(base, base_labels), base_labels)
        student.descend(student.gradients(config.lambda_ce * ce_base, "head."))
        ce = naive_cross_entropy(student.logits(student.backbone(batch.support_x), batch.labels), batch.labels)
        student.descend(student.gradients(config.lambda_ce * ce))
        return [ce_base.item(), ce.item()]

    return finetuned(episode, teacher, list(related), config.base_batch, one_step)
