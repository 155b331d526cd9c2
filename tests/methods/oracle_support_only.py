"""Finetuning on the support alone once more."""

from oracle_arithmetic import naive_cross_entropy
from oracle_finetuning import Batch, Episode, Student, Trace, finetuned
from torch import Tensor


def support_only_oracle(episode: Episode) -> tuple[Trace, Tensor]:
    """Return the trace and the logits of the queries."""

    def one_step(student: Student, batch: Batch) -> list[float]:
        ce = naive_cross_entropy(student.logits(student.backbone(batch.support_x)), batch.labels)
        student.descend(student.gradients(episode.config.lambda_ce * ce))
        return [0.0, ce.item()]

    return finetuned(episode, episode.teacher(), [], 0, one_step)
