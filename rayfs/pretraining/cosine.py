"""Embedding learning by cross-entropy of a cosine classifier, `min CE(s cos(f(x), w), y)`, with a learnable scale s.

Sarah Parisot, Pedro M. Esperança, Steven McDonagh, Tamas J. Madarasz, Yongxin Yang, Zhenguo Li. "Long-tail Recognition
via Compositional Knowledge Transfer", CVPR 2022 (its stage 1, equations 1 and 2).
"""

import torch
from torch import nn

from rayfs.backbones.heads import CosineHead
from rayfs.benchmarks.registry import Benchmark
from rayfs.pretraining.cross_entropy import CrossEntropy


def cosine(
    backbone: nn.Module, benchmark: Benchmark, n_classes: int, initial_scale: float, *, generator: torch.Generator
) -> CrossEntropy:
    """Return cross-entropy of one augmented view of each image, whose logits are scaled cosines.

    Arguments:
        n_classes: base classes.
        initial_scale: s at the start.
        generator: initial weights of the classifier, on the CPU.
    """

    def head(n_features: int, n_outputs: int, generator: torch.Generator) -> CosineHead:
        return CosineHead(n_features, n_outputs, initial_scale, generator=generator)

    return CrossEntropy(backbone, benchmark, n_classes, rotations=False, generator=generator, head=head)
