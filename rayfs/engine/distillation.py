"""Knowledge distillation (Hinton, Vinyals, Dean, 2015), as every system here uses it. B images, K classes."""

import torch
import torch.nn.functional as F


def distillation_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return `T²/B Σ_i KL(softmax(teacher_i / T) || softmax(student_i / T))` of logits (B, K)."""
    student_log = F.log_softmax(student / temperature, dim=1)
    teacher_log = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)
