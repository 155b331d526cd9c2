"""Feature distillation once more, from its equation."""

from oracle_arithmetic import naive_cross_entropy, naive_feature_distance, naive_plain
from oracle_finetuning import Batch, Episode, Student, Trace, finetuned, forward_both, weighted_sum
from oracle_pseudo_labels import used_rows
from torch import Tensor

from rayfs.methods.feature_distill import FeatureDistillSettings


def feature_distill_oracle(episode: Episode) -> tuple[Trace, Tensor]:
    """Return the trace and the logits of the queries."""
    config, teacher = episode.config, episode.teacher()
    assert isinstance(config, FeatureDistillSettings)

    def one_step(student: Student, batch: Batch) -> list[float]:
        kept = episode.frozen(naive_plain(episode.base_images(batch.rows), episode.world)).detach()
        base, support = forward_both(student, batch, config.batch_norm)
        distance = naive_feature_distance(base, kept)
        ce = naive_cross_entropy(student.logits(support), batch.labels)
        pulls = student.gradients(distance, "backbone.")  # the head is not in it
        student.descend(weighted_sum((config.lambda_base, pulls), (config.lambda_ce, student.gradients(ce))))
        return [distance.item(), ce.item()]

    return finetuned(episode, teacher, used_rows(episode, teacher), config.base_batch, one_step)
