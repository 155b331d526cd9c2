"""Base images and hallucinated labels once more: which images a method uses, and what the teacher says of them."""

from oracle_arithmetic import naive_plain
from oracle_base_rows import naive_chosen, naive_related
from oracle_finetuning import Batch, Episode, Teacher
from torch import Tensor

from rayfs.methods.finetuning.settings import BaseFinetuneSettings


def pseudo_labels(episode: Episode, teacher: Teacher, batch: Batch) -> Tensor:
    """Return the teacher's logits of the base images of a batch, or of the student's views of them."""
    plain = naive_plain(episode.base_images(batch.rows), episode.world)
    return episode.hallucinate(teacher, plain if episode.config.pseudo_label_view == "plain" else batch.base_x)


def used_rows(episode: Episode, teacher: Teacher) -> list[int]:
    """Return the base rows that the settings leave."""
    config, table = episode.config, episode.world.bank.table
    assert isinstance(config, BaseFinetuneSettings)
    rows = naive_chosen(table, config, episode.randomness.seed)
    if config.base_subset == "all":
        return rows
    guesses = likeliest_classes(episode, teacher, rows)
    labels = [int(table.labels[row]) for row in rows]
    return [rows[i] for i in naive_related(guesses, labels, episode.task.n_way, config.related_classes)]


def likeliest_classes(episode: Episode, teacher: Teacher, rows: list[int]) -> list[int]:
    """Return the class of the episode that the teacher gives each base image."""
    logits = episode.hallucinate(teacher, naive_plain(episode.base_images(rows), episode.world))
    return [row.index(max(row)) for row in logits.tolist()]
