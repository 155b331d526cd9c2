"""Features of a frozen backbone, in batches of one fixed size. N images, D features."""

from collections.abc import Callable

import torch
from torch import nn

BATCH = 256
"""Images a forward pass. Fixed, and the last batch is padded to it: a feature must not depend on who else is asked."""


@torch.inference_mode()
def embed(
    backbone: nn.Module,
    images: torch.Tensor,
    prepare: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device,
    batch: int = BATCH,
) -> torch.Tensor:
    """Return the features of `images` under a frozen backbone.

    Arguments:
        backbone: on `device`, in eval mode; (n, C, H, W) -> (n, D).
        images: (N, H, W, C) uint8, on any device.
        prepare: turns (n, H, W, C) uint8 on `device` into the backbone's (n, C, H, W) input.

    Returns:
        (N, D) float32 on `device`.

    Raises:
        ValueError: the backbone is in training mode, so that its batch statistics would move.
    """
    if backbone.training:
        raise ValueError("the backbone must be in eval mode to extract features")
    parts = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch].to(device)
        n = len(part)
        if n < batch:
            part = torch.cat([part, part[-1:].expand(batch - n, *part.shape[1:])])
        parts.append(backbone(prepare(part))[:n].float())
    return torch.cat(parts)
