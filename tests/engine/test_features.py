"""Feature extraction: a feature depends on its image alone."""

import copy

import pytest
import torch
from torch import nn

from rayfs.backbones.conv4 import Conv4
from rayfs.datasets.augmentation import plain_view
from rayfs.engine.features import BATCH, embed
from rayfs.randomness import torch_generator

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    return Conv4(1, width=8, generator=torch_generator(0, "weights")).eval().requires_grad_(False)


def images(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 16, 16, 1), dtype=torch.uint8, generator=torch_generator(0, "images"))


@pytest.mark.parametrize("n", [1, 3, 8, 9, 16, 19])
def test_feature_has_the_same_bits_whoever_else_is_asked(backbone, n):
    everything = embed(backbone, images(20), plain_view, CPU, batch=8)
    assert everything.shape == (20, 8) and everything.dtype == torch.float32
    assert torch.equal(embed(backbone, images(20)[:n], plain_view, CPU, batch=8), everything[:n])


def test_feature_has_the_same_bits_at_every_place_in_a_batch(backbone):
    order = torch.randperm(20, generator=torch_generator(0, "order"))
    everything = embed(backbone, images(20), plain_view, CPU, batch=8)
    assert torch.equal(embed(backbone, images(20)[order], plain_view, CPU, batch=8), everything[order])


def test_features_equal_a_loop_over_images(backbone):
    alone = torch.cat([backbone(plain_view(image[None])) for image in images(5)])
    torch.testing.assert_close(embed(backbone, images(5), plain_view, CPU), alone)


def test_backbone_always_sees_whole_batches_padded_with_the_last_image():
    seen = []

    def prepare(part: torch.Tensor) -> torch.Tensor:
        seen.append(part.clone())
        return plain_view(part)

    embed(nn.Flatten().eval(), images(5), prepare, CPU, batch=4)
    assert [len(part) for part in seen] == [4, 4]
    assert torch.equal(seen[0], images(5)[:4])
    assert all(torch.equal(image, images(5)[4]) for image in seen[1])


def test_default_batch_is_fixed():
    sizes = []

    def prepare(part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        return plain_view(part)

    embed(nn.Flatten().eval(), images(3), prepare, CPU)
    assert sizes == [BATCH] == [256]


def test_backbone_in_training_mode_is_refused_before_its_statistics_move(backbone):
    training = Conv4(1, width=8, generator=torch_generator(0, "weights")).train()
    with pytest.raises(ValueError, match="must be in eval mode"):
        embed(training, images(4), plain_view, CPU)
    assert training.layer1[1].num_batches_tracked == 0


def test_features_carry_no_gradient():
    trainable = Conv4(1, width=4, generator=torch_generator(0, "weights")).eval()
    assert not embed(trainable, images(2), plain_view, CPU).requires_grad


def test_gpu_gives_the_features_of_the_cpu(backbone, gpu):
    there = embed(copy.deepcopy(backbone).to(gpu), images(19), plain_view, gpu, batch=8)
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), embed(backbone, images(19), plain_view, CPU), rtol=1e-2, atol=1e-3)
