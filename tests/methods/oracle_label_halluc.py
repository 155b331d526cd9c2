"""Label Hallucination once more, from its equations: distillation on base images, cross-entropy on the support.

Who gets the gradient of the distillation is decided after all gradients are taken; nothing is detached.
"""

from oracle_arithmetic import naive_cross_entropy, naive_distillation
from oracle_finetuning import Batch, Episode, Student, Trace, finetuned, forward_both, weighted_sum
from oracle_pseudo_labels import pseudo_labels, used_rows
from torch import Tensor

from rayfs.methods.label_halluc import LabelHallucSettings


def label_halluc_oracle(episode: Episode) -> tuple[Trace, Tensor]:
    """Return the trace and the logits of the queries."""
    config, teacher, pseudo_logits = episode.config, episode.teacher(), []
    assert isinstance(config, LabelHallucSettings)
    parts = {"both": ["backbone.", "head."], "head": ["head."], "backbone": ["backbone."], "none": []}

    def one_step(student: Student, batch: Batch) -> list[float]:
        pseudo_logits.append(pseudo_labels(episode, teacher, batch))
        base, support = forward_both(student, batch, config.batch_norm)
        kl = naive_distillation(student.logits(base), pseudo_logits[-1], config.temperature)
        ce = naive_cross_entropy(student.logits(support), batch.labels)
        receives = [(config.lambda_kl, student.gradients(kl, part)) for part in parts[config.base_gradient]]
        student.descend(weighted_sum(*receives, (config.lambda_ce, student.gradients(ce))))
        return [kl.item(), ce.item()]

    trace, logits = finetuned(episode, teacher, used_rows(episode, teacher), config.base_batch, one_step)
    trace.pseudo_logits = pseudo_logits
    return trace, logits
