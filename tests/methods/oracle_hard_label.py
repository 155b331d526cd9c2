"""Hard pseudo-labels once more, from their equation."""

from oracle_arithmetic import naive_cross_entropy
from oracle_finetuning import Batch, Episode, Student, Trace, finetuned, forward_both
from oracle_pseudo_labels import pseudo_labels, used_rows
from torch import Tensor

from rayfs.methods.hard_label import HardLabelSettings


def hard_label_oracle(episode: Episode) -> tuple[Trace, Tensor]:
    """Return the trace and the logits of the queries."""
    config, teacher, pseudo_logits = episode.config, episode.teacher(), []
    assert isinstance(config, HardLabelSettings)

    def one_step(student: Student, batch: Batch) -> list[float]:
        pseudo_logits.append(pseudo_labels(episode, teacher, batch))
        likeliest = [row.index(max(row)) for row in pseudo_logits[-1].tolist()]
        base, support = forward_both(student, batch, config.batch_norm)
        hard = naive_cross_entropy(student.logits(base), likeliest)
        ce = naive_cross_entropy(student.logits(support), batch.labels)
        student.descend(student.gradients(config.lambda_base * hard + config.lambda_ce * ce))
        return [hard.item(), ce.item()]

    trace, logits = finetuned(episode, teacher, used_rows(episode, teacher), config.base_batch, one_step)
    trace.pseudo_logits = pseudo_logits
    return trace, logits
