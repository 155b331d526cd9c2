"""IER, generation 0: an embedding that knows its 16 transforms apart (equivariant) and looks past them (invariant).

Mamshad Nayeem Rizve, Salman Khan, Fahad Shahbaz Khan, Mubarak Shah. "Exploring Complementary Strengths of Invariant and
Equivariant Representations for Few-Shot Learning", CVPR 2021, https://arxiv.org/abs/2103.01315:
`min L_ce + γ (L_eq + L_inv)`, details as in the released code.
M = 16 N views of N images, A = 4 aspects, S pixels, C classes, D dimensions of the invariant embedding, K negatives.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from rayfs.backbones.heads import linear
from rayfs.backbones.registry import n_features
from rayfs.datasets.augmentation import ViewParameters, constant, draw_views
from rayfs.datasets.registry import Benchmark
from rayfs.errors import InputError
from rayfs.training.forward_learner import image_parts
from rayfs.training.heads import mlp
from rayfs.training.objective import Networks, Outcome, accuracy
from rayfs.training.objectives.cross_entropy.loss import N_ROTATIONS, augmented, turned
from rayfs.training.objectives.ier_gen0 import EMBEDDING, N_TRANSFORMS
from rayfs.training.parts import Given, Parts

ASPECTS = ((0, 0), (1, 0), (0, 1), (1, 1))
"""Are rows, are columns cropped to two thirds? Each aspect is seen in four turns."""

assert len(ASPECTS) * N_ROTATIONS == N_TRANSFORMS, "transform `4 aspect + turn`; 0 leaves the image as it is"

EPSILON = 1e-6
"""Added to norms and to the denominator of the contrast (released code)."""


def create(given: Given) -> Parts:
    """Return generation 0, with a memory of all base images."""
    settings = given.settings
    objective = IerGen0(
        given.backbone, given.benchmark, given.n_classes, len(given.base), settings.gamma, settings.negatives,
        settings.memory_momentum, settings.contrast_temperature, generator=given.head_generator(),
    )  # fmt: skip
    return image_parts(objective, given)


@dataclass(frozen=True, kw_only=True)
class TransformDraws:
    """Everything random about the 16 transforms of a batch and its contrast."""

    aspects: tuple[ViewParameters, ...]
    """Jitter, flip and the like of each aspect's view; its four turns share them."""
    offsets_NA2: Tensor
    """int64, top and left corner of each aspect's window."""
    negatives_K: Tensor
    """int64, distinct rows of the memory, none of them in the batch; all images share them."""

    def part(self, index: slice) -> "TransformDraws":
        """Return the draws of some of the images, and all negatives."""
        return TransformDraws(
            aspects=tuple(aspect.part(index) for aspect in self.aspects),
            offsets_NA2=self.offsets_NA2[index],
            negatives_K=self.negatives_K,
        )


class IerGen0:
    """Cross-entropy over classes and over transforms of 16 views, and a contrast of the views with a memory of images.

    The memory holds a slow mean of every image's invariant embedding. It starts at zero (ours): a slot that was not
    seen yet has cosine 0 with everything.

    Arguments:
        n_classes: base classes; a transformed image keeps its class.
        n_images: rows of the base table, the slots of the memory.
        gamma: γ.
        negatives: slots that each view is contrasted with; fewer where the base set has fewer outside the batch.
        memory_momentum: share of the old value when a slot is updated.
        contrast_temperature: τ.
        generator: initial weights of the heads, on the CPU.
    """

    def __init__(
        self,
        backbone: nn.Module,
        benchmark: Benchmark,
        n_classes: int,
        n_images: int,
        gamma: float,
        negatives: int,
        memory_momentum: float,
        contrast_temperature: float,
        *,
        generator: torch.Generator,
    ) -> None:
        # The windows take the place of the padded crop; whatever else the benchmark varies stays.
        self._benchmark = replace(benchmark, augmentation=replace(benchmark.augmentation, crop_padding=0))
        self._gamma, self._negatives, self._temperature = gamma, negatives, contrast_temperature
        self._memory, self._memory_momentum = torch.zeros(n_images, EMBEDDING), memory_momentum
        width = n_features(backbone)
        heads = {
            "classifier": linear(width, n_classes, generator),
            "eq_head": mlp(width, N_TRANSFORMS, generator),
            "inv_head": mlp(width, EMBEDDING, generator),
        }
        self.networks = Networks(backbone, heads)

    def draw(self, rows_N: Tensor, generator: torch.Generator) -> TransformDraws:
        """Draw the four aspects of each image, and the negatives of the batch."""
        n, size, device = len(rows_N), self._benchmark.image_size, generator.device
        n_offsets = max(1, size - window_size(size))
        offsets_NA2 = torch.randint(n_offsets, (n, len(ASPECTS), 2), generator=generator, device=device)
        return TransformDraws(
            aspects=tuple(draw_views(n, self._benchmark.augmentation, generator) for _ in ASPECTS),
            offsets_NA2=offsets_NA2 * constant(ASPECTS, device),
            negatives_K=draw_negatives(rows_N, len(self._memory), self._negatives, generator),
        )

    def views(self, images_NHWC: Tensor, draws: TransformDraws) -> Tensor:
        """Return the views (16N, ...): transform 0 of all images, then transform 1 of all, to 15."""
        views = []
        for aspect, parameters in enumerate(draws.aspects):
            windows_NHWC = window(images_NHWC, ASPECTS[aspect], draws.offsets_NA2[:, aspect])
            views.append(turned(augmented(windows_NHWC, self._benchmark, parameters), range(N_ROTATIONS)))
        return torch.cat(views)

    def targets(self, views: Tensor) -> dict[str, Tensor]:
        """Return nothing: there is no teacher."""
        return {}

    def loss(
        self,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        labels_N: Tensor,
        rows_N: Tensor,
        draws: TransformDraws,
    ) -> Outcome:
        """Return `ce + γ (equivariance + invariance)`, then let the memory see the untransformed embeddings.

        With several workers every one of them sees those of all; their parts of the batch have the same size.
        """
        n, z_MD = len(labels_N), outputs["inv_head"]
        rows_N, self._memory = rows_N.to(z_MD.device), self._memory.to(z_MD.device)
        ce = F.cross_entropy(outputs["classifier"], labels_N.repeat(N_TRANSFORMS))
        transforms_M = torch.arange(N_TRANSFORMS, device=z_MD.device).repeat_interleave(n)
        equivariance = F.cross_entropy(outputs["eq_head"], transforms_M)
        invariance = invariance_loss(z_MD, self._memory[rows_N], self._memory[draws.negatives_K], self._temperature)
        remember(self._memory, whole_batch(rows_N), whole_batch(z_MD[:n].detach()), self._memory_momentum)
        return Outcome(
            loss=ce + self._gamma * (equivariance + invariance),
            parts={"ce": ce.detach(), "equivariance": equivariance.detach(), "invariance": invariance.detach()},
            accuracy=accuracy(outputs["classifier"][:n], labels_N),
        )

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the memory, (n_images, 64) float32."""
        return {"memory": self._memory.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take the memory back.

        Raises:
            InputError: it was made for another number of images.
        """
        memory = state["memory"]
        if memory.shape != self._memory.shape:
            raise InputError(
                f"the memory bank has shape {tuple(memory.shape)}; expected {tuple(self._memory.shape)} for a base set "
                f"of {len(self._memory)} images: resume with the base set that training began with"
            )
        self._memory = memory.clone()


def window_size(size: int) -> int:
    """Return two thirds of `size` pixels, rounded up: 22 of 32 and 56 of 84, as in the released code."""
    return math.ceil(2 * size / 3)


def window(images_NHWC: Tensor, cropped: tuple[int, int], offsets_N2: Tensor) -> Tensor:
    """Cut a window out of each image and stretch it back to S x S, bilinear.

    As torchvision's `resized_crop` of a uint8 image: values are rounded to whole ones. Window offsets are drawn below
    S - window_size(S), so that, as in the released code, the last window that would fit is never taken.

    Arguments:
        images_NHWC: uint8, S x S pixels.
        cropped: (rows, columns), 1 where only `window_size(S)` of them are kept.
        offsets_N2: top and left corner, 0 where all are kept.
    """
    n, size = images_NHWC.shape[:2]
    if not any(cropped):
        return images_NHWC
    height, width = (window_size(size) if crop else size for crop in cropped)
    device = images_NHWC.device
    rows_NH = offsets_N2[:, :1] + torch.arange(height, device=device)
    columns_NW = offsets_N2[:, 1:] + torch.arange(width, device=device)
    cut = images_NHWC[torch.arange(n, device=device)[:, None, None], rows_NH[:, :, None], columns_NW[:, None, :]]
    resized = F.interpolate(cut.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear", align_corners=False)
    return resized.round().to(torch.uint8).permute(0, 2, 3, 1)


def draw_negatives(rows_N: Tensor, n_images: int, n: int, generator: torch.Generator) -> Tensor:
    """Draw `n` distinct rows below `n_images`, none of `rows_N`; int64 on the generator's device.

    Fewer where fewer are left. The rows with the smallest of uniform numbers, those of the batch aside: of one size
    whatever the batch, so that a GPU need not tell the host how many there are.

    Deviation: the released code means to leave the batch out but compares tensors by identity, which leaves nothing
    out, so that an image may be its own negative.
    """
    noise = torch.rand(n_images, generator=generator, device=generator.device)
    noise[rows_N] = 2.0
    return noise.topk(max(0, min(n, n_images - len(rows_N))), largest=False).indices


def invariance_loss(z_MD: Tensor, slots_ND: Tensor, negatives_KD: Tensor, temperature: float) -> Tensor:
    """Return L_inv, the mean contrast over all views of all images.

    The untransformed view of an image is the positive of its memory slot; every other view is the positive of the
    untransformed one.

    Arguments:
        z_MD: embeddings, transform by transform, the first N untransformed.
        slots_ND: memory of the images.
        negatives_KD: memory of the negatives.
    """
    n = len(slots_ND)
    anchors_MD = torch.cat([slots_ND, z_MD[:n].repeat(len(z_MD) // n - 1, 1)])
    return contrast(anchors_MD, z_MD, negatives_KD, temperature).mean()


def contrast(anchors_MD: Tensor, positives_MD: Tensor, negatives_KD: Tensor, temperature: float) -> Tensor:
    """Return `-log(e^{cos(a, p)/τ} / (e^{cos(a, p)/τ} + Σ_k e^{cos(p, n_k)/τ} + ε))` of each pair, (M,).

    As released, the negatives are compared with the positive, not with the anchor, and ε is added to every norm. The
    sum is taken as logarithms, so that no τ overflows.
    """
    p_MD = _nearly_unit(positives_MD)
    positive_M1 = (_nearly_unit(anchors_MD) * p_MD).sum(1, keepdim=True) / temperature
    negatives_MK = p_MD @ _nearly_unit(negatives_KD).T / temperature
    epsilon_M1 = torch.full_like(positive_M1, math.log(EPSILON))
    terms = torch.cat([positive_M1, negatives_MK, epsilon_M1], 1)
    return torch.logsumexp(terms, 1) - positive_M1.squeeze(1)


def _nearly_unit(rows_ND: Tensor) -> Tensor:
    norm_N1: Tensor = torch.linalg.vector_norm(rows_ND, dim=1, keepdim=True)
    return rows_ND / (norm_N1 + EPSILON)


def remember(memory: Tensor, rows_B: Tensor, z_BD: Tensor, momentum: float) -> None:
    """Move slots in place: `memory[row] <- m memory[row] + (1 - m) z`, not renormalised.

    A row that comes twice moves once, by its first embedding, so that the order of writing does not matter.
    """
    first_B = (rows_B[:, None] == rows_B).int().argmax(1)
    memory[rows_B] = momentum * memory[rows_B] + (1 - momentum) * z_BD[first_B].to(memory.dtype)


def whole_batch(part: Tensor) -> Tensor:
    """Return the parts of all workers, one after the other; `part` itself where there is one worker."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return part
    parts = [torch.empty_like(part) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, part.contiguous())
    return torch.cat(parts)
