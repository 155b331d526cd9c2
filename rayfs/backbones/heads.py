"""Classifier heads on top of a backbone's features.

Shapes: N images, D features, C classes.
"""

import torch
from torch import Tensor, nn

from rayfs.backbones.uninitialised import uninitialised


def l2_normalize(features_ND: Tensor) -> Tensor:
    """Divide each row by its Euclidean norm, without an epsilon, as the released code of Label Hallucination does.

    A zero row stays zero and passes its gradient unscaled, where the plain formula gives NaN; every other row is
    divided by exactly its norm.
    """
    norm_N1 = torch.linalg.vector_norm(features_ND, dim=1, keepdim=True)
    return features_ND / torch.where(norm_N1 == 0, 1.0, norm_N1)


def linear(n_inputs: int, n_outputs: int, generator: torch.Generator) -> nn.Linear:
    """Return an nn.Linear with its usual initial values, W and b ~ U(-1/√n_inputs, 1/√n_inputs).

    Drawn from `generator` (on the CPU), W first.
    """
    layer = uninitialised(nn.Linear, n_inputs, n_outputs)
    bound = n_inputs**-0.5
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


class LinearHead(nn.Module):
    """logits = W z + b, with z the features or, with `normalize`, the features divided by their norm.

    Initial values are those of `linear`. No scale or temperature is applied to the logits.
    """

    def __init__(self, n_features: int, n_classes: int, normalize: bool, *, generator: torch.Generator) -> None:
        super().__init__()
        self.normalize = normalize
        self.linear = linear(n_features, n_classes, generator)

    def forward(self, features_ND: Tensor) -> Tensor:
        """Return logits (N, C). A zero feature row gives the bias alone."""
        logits_NC: Tensor = self.linear(l2_normalize(features_ND) if self.normalize else features_ND)
        return logits_NC


class CosineHead(nn.Module):
    """logits_c = s cos(z, w_c), with s a learnable scalar and no bias.

    A pure cosine: equation 2 of "Long-tail Recognition via Compositional Knowledge Transfer" (CVPR 2022). The heads of
    OLTR and CloserLook bear the name but keep some of the length of the features or of the classes.

    Arguments:
        initial_scale: s at the start.
        generator: w ~ U(-1/√n_features, 1/√n_features) as in `linear`, on the CPU.
    """

    def __init__(self, n_features: int, n_classes: int, initial_scale: float, *, generator: torch.Generator) -> None:
        super().__init__()
        bound = n_features**-0.5
        self.weight = nn.Parameter(torch.empty(n_classes, n_features).uniform_(-bound, bound, generator=generator))
        self.scale = nn.Parameter(torch.tensor(float(initial_scale)))

    def forward(self, features_ND: Tensor) -> Tensor:
        """Return logits (N, C), in float32 also under autocast: times s = 16, bf16 would be off by up to 0.08.

        A zero feature row or a zero w_c gives 0, with a finite gradient.
        """
        with torch.autocast(features_ND.device.type, enabled=False):
            unit_ND = l2_normalize(features_ND.to(self.weight.dtype))
            return self.scale * (unit_ND @ l2_normalize(self.weight).T)
