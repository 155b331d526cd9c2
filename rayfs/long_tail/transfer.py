"""Knowledge transfer between classes, equations 4 to 6, for all thresholds in one pass.

Sarah Parisot, Pedro M. Esperança, Steven McDonagh, Tamas J. Madarasz, Yongxin Yang, Zhenguo Li. "Long-tail Recognition
via Compositional Knowledge Transfer", CVPR 2022.

Q classes that ask, C classes that are asked, D features, K thresholds. The paper has a class in each column, here it is
a row. No randomness.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rayfs.backbones.heads import l2_normalize
from rayfs.errors import InputError


def transfer_weights(
    queries_QD: Tensor, keys_CD: Tensor, counts_C: Tensor, k: int, tau: float, own_Q: Tensor | None = None
) -> Tensor:
    """Return α_ij = softmax_j(τ cos(q_i, w_j)) over the classes with n_j > k, 0 for the others, (Q, C): equation 5.

    Arguments: as `transfer`.
    """
    refuse_impossible(counts_C, [k], own_Q)
    logits_QC = tau * l2_normalize(queries_QD) @ l2_normalize(keys_CD).T
    return _masked(logits_QC, torch.arange(len(keys_CD)), own_Q).masked_fill(counts_C <= k, -math.inf).softmax(1)


def transfer(
    queries_QD: Tensor, keys_CD: Tensor, counts_C: Tensor, thresholds: Sequence[int], tau: float,
    own_Q: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Return w^kt_i(k) = Σ_j α_ij w_j / ||w_j|| of every class that asks, for each k, (K, Q, D): equation 4.

    Arguments:
        queries_QD: what asks: prototypes p_i in the paper.
        keys_CD: what is asked and recombined: classifier weights w_j in the paper.
        counts_C: n_j, training images of each class, int64.
        thresholds: k; n_j > k strictly, so that a class with exactly k images gives nothing.
        tau: τ, a factor of the cosine: 0 weighs all classes alike.
        own_Q: position of each class itself among those asked, -1 for none: it is left out of its neighbours then.
            Decision: equation 6 has every class with n_j > k, i itself included, and so has the default, None.

    Raises:
        InputError: no class has more than k images, or only a class itself has and it is left out.
    """
    n_queries, (_, n_features) = len(queries_QD), keys_CD.shape
    out_KQD = keys_CD.new_empty(len(thresholds), n_queries, n_features)
    for places, transferred_QD in transfer_each(queries_QD, keys_CD, counts_C, thresholds, tau, own_Q):
        out_KQD[places] = transferred_QD
    return out_KQD


def transfer_each(
    queries_QD: Tensor, keys_CD: Tensor, counts_C: Tensor, thresholds: Sequence[int], tau: float,
    own_Q: Tensor | None = None,
) -> Iterator[tuple[list[int], Tensor]]:  # fmt: skip
    """Yield (positions of thresholds, w^kt (Q, D)) from the highest threshold down; equal sets of classes come once.

    Classes sorted by n_j make the classes of a lower threshold those of a higher one and some more: their sums are
    continued, rescaled where a larger logit comes (the softmax is that of all of them at once, at any τ). All
    thresholds together cost a single product of (Q, C) with (C, D).
    """
    refuse_impossible(counts_C, thresholds, own_Q)
    order_C = torch.argsort(counts_C, descending=True, stable=True)
    asking_QD, asked_CD = l2_normalize(queries_QD), l2_normalize(keys_CD)[order_C]
    places_of: dict[int, list[int]] = {}
    for place, k in enumerate(thresholds):
        places_of.setdefault(int((counts_C > k).sum()), []).append(place)
    sums_QD = torch.zeros(len(queries_QD), keys_CD.shape[1], dtype=keys_CD.dtype)
    totals_Q1 = sums_QD.new_zeros(len(queries_QD), 1)
    peaks_Q1 = sums_QD.new_full((len(queries_QD), 1), -math.inf)
    start = 0
    for end in sorted(places_of):
        logits_QB = _masked(tau * asking_QD @ asked_CD[start:end].T, order_C[start:end], own_Q)
        new_Q1 = torch.maximum(peaks_Q1, logits_QB.amax(1, keepdim=True))
        reached_Q1 = new_Q1.nan_to_num(neginf=0.0)  # a class whose only neighbour so far is itself, left out
        weights_QB, kept_Q1 = (logits_QB - reached_Q1).exp(), (peaks_Q1 - reached_Q1).exp()
        sums_QD.mul_(kept_Q1).addmm_(weights_QB, asked_CD[start:end])
        totals_Q1.mul_(kept_Q1).add_(weights_QB.sum(1, keepdim=True))
        peaks_Q1, start = new_Q1, end
        yield places_of[end], sums_QD / totals_Q1


def refuse_impossible(counts_C: Tensor, thresholds: Sequence[int], own_Q: Tensor | None = None) -> None:
    """Raise InputError where a threshold leaves a class no other to learn from."""
    most = int(counts_C.max())
    for k in thresholds:
        above = torch.nonzero(counts_C > k).flatten()
        if len(above) == 0:
            raise InputError(
                f"k is {k} but no class that the head knows has more than {k} training images (the most is {most}): "
                f"there is nothing to transfer; take a k below {most}"
            )
        if len(above) == 1 and own_Q is not None and bool((own_Q == above[0]).any()):
            raise InputError(
                f"k is {k}: a single class has more than {k} training images ({most}), and it is left out of its own "
                "neighbours; lower k, or let classes be their own neighbours"
            )


def _masked(logits_QB: Tensor, ids_B: Tensor, own_Q: Tensor | None) -> Tensor:
    return logits_QB if own_Q is None else logits_QB.masked_fill(own_Q[:, None] == ids_B, -math.inf)
