"""Embedding learning by cross-entropy of a cosine classifier, `min CE(s cos(f(x), w), y)`, with a learnable scale s.

Sarah Parisot, Pedro M. Esperança, Steven McDonagh, Tamas J. Madarasz, Yongxin Yang, Zhenguo Li. "Long-tail Recognition
via Compositional Knowledge Transfer", CVPR 2022 (its stage 1, equations 1 and 2).

Balanced softmax, `min CE(s cos(f(x), w) + log n, y)` with n_c training images of class c: Jiawei Ren, Cunjun Yu, Shunan
Sheng, Xiao Ma, Haiyu Zhao, Shuai Yi, Hongsheng Li. "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS
2020, https://arxiv.org/abs/2007.10740, equation 3 (and table 7 of the former).
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from rayfs.backbones.heads import CosineHead
from rayfs.datasets.registry import Benchmark
from rayfs.training.forward_learner import image_parts
from rayfs.training.objectives.cross_entropy.loss import CrossEntropy
from rayfs.training.parts import Given, Parts


def create(given: Given) -> Parts:
    """Return cross-entropy of scaled cosines."""
    return _parts(given, counts=())


def create_balanced(given: Given) -> Parts:
    """Return balanced softmax, with the sizes of the base classes."""
    return _parts(given, counts=given.base.class_counts().tolist())


def _parts(given: Given, counts: Sequence[int]) -> Parts:
    objective = cosine(
        given.backbone, given.benchmark, given.n_classes, given.settings.initial_scale, counts,
        generator=given.head_generator(),
    )  # fmt: skip
    return image_parts(objective, given)


def cosine(
    backbone: nn.Module,
    benchmark: Benchmark,
    n_classes: int,
    initial_scale: float,
    counts: Sequence[int] = (),
    *,
    generator: torch.Generator,
) -> CrossEntropy:
    """Return cross-entropy of one augmented view of each image, whose logits are scaled cosines.

    Arguments:
        n_classes: base classes.
        initial_scale: s at the start.
        counts: training images of each class, 1 or more, for balanced softmax; empty: plain softmax.
        generator: initial weights of the classifier, on the CPU.
    """

    def head(n_features: int, n_outputs: int, generator: torch.Generator) -> CosineHead:
        return CosineHead(n_features, n_outputs, initial_scale, generator=generator)

    log_prior = tuple(math.log(count) for count in counts)
    return CrossEntropy(
        backbone, benchmark, n_classes, rotations=False, generator=generator, head=head, log_prior=log_prior
    )
