"""Which base images an epoch visits, and in which order. N images, C classes."""

import numpy as np
import torch
from torch import Tensor

from rayfs.errors import InputError
from rayfs.training.config import SAMPLERS


def epoch_rows(labels: np.ndarray, sampler: str, generator: torch.Generator) -> Tensor:
    """Draw the N rows of one epoch.

    Arguments:
        labels: class of each row, (N,) integers from 0, in any order; a class may be empty.
        sampler: "uniform": every row once, in random order. With replacement, and every row of a class alike:
            "square-root": class j with probability `√n_j / Σ_i √n_i` for its n_j rows (the sampler of compositional
            knowledge transfer); "class-aware": every class that has rows with the same probability.
        generator: on the CPU.

    Returns:
        (N,) int64 on the CPU.

    Raises:
        InputError: unknown `sampler`.
    """
    n = len(labels)
    if sampler == "uniform":
        return torch.randperm(n, generator=generator)
    labels_N = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    counts_C = torch.bincount(labels_N)
    if sampler == "square-root":
        weights_C = counts_C.double().sqrt()
    elif sampler == "class-aware":
        weights_C = (counts_C > 0).double()
    else:
        raise InputError(f"--sampler is '{sampler}'; expected one of {', '.join(SAMPLERS)}")
    classes_N = torch.multinomial(weights_C, n, replacement=True, generator=generator)
    # Positions inside a class: u < 1 has 53 bits, so that u n_c never rounds up to n_c.
    within_N = (torch.rand(n, dtype=torch.float64, generator=generator) * counts_C[classes_N]).long()
    starts_C = counts_C.cumsum(0) - counts_C
    return torch.argsort(labels_N, stable=True)[starts_C[classes_N] + within_N]
