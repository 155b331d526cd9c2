"""Conv-4: size, shapes, names, and initialisation."""

import copy

import pytest
import torch

from rayfs.backbones import Conv4, n_parameters
from rayfs.backbones.conv4 import CHUNK, conv4_block
from rayfs.randomness import torch_generator


def make(in_channels: int = 3, seed: int = 0) -> Conv4:
    return Conv4(in_channels, generator=torch_generator(seed, "weights"))


def test_parameters_counted_by_hand():
    convolutions = (3 * 9 + 1) * 64 + 3 * (64 * 9 + 1) * 64
    norms = 4 * 2 * 64
    assert n_parameters(make()) == convolutions + norms == 113_088


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28, 32, 84])
def test_features_are_64_at_every_image_size(channels, size):
    backbone = make(channels).eval()
    assert backbone.n_features == 64
    assert backbone(torch.ones(2, channels, size, size)).shape == (2, 64)


def test_last_block_is_not_pooled():
    backbone = make().eval()
    maps = backbone.layer3(backbone.layer2(backbone.layer1(torch.ones(1, 3, 84, 84))))
    assert maps.shape[-1] == backbone.layer4(maps).shape[-1] == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooling_before_the_relu_gives_the_bits_of_the_published_order(dtype):
    """Also where the largest pixels of a window tie, as they often do in bf16, and where all are negative."""
    block = make().layer2
    images = torch.randn(4, 64, 16, 16, generator=torch_generator(0, "images")).mul(2).round().div(2).to(dtype)
    given = images.clone().requires_grad_()
    expected = images.clone().requires_grad_()
    weights = torch.randn(4, 64, 8, 8, generator=torch_generator(0, "gradient")).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found_maps = block(given)
        convolution, norm = block[0], block[1]
        maps = torch.nn.functional.max_pool2d(norm(convolution(expected)).relu(), 2)
    assert torch.equal(found_maps, maps)
    assert (maps == 0).any()
    found = torch.autograd.grad((found_maps * weights).sum(), [given, *block.parameters()])
    naive = torch.autograd.grad((maps * weights).sum(), [expected, *block.parameters()])
    assert all(torch.equal(*pair) for pair in zip(found, naive, strict=True))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 2e-2)], ids=str
)
def test_a_frozen_convolution_pools_first_and_gives_what_the_layers_give_one_by_one(
    training, tracked, dtype, tolerance
):
    """Odd sizes, more images than one chunk, channels that batch norm turns over, and one that it makes constant."""
    draw = torch_generator(0, "block")
    block = conv4_block(3, 16, draw, pool=True)
    convolution, norm = block[0], block[1]
    convolution.bias.data.normal_(generator=draw)
    norm.weight.data.normal_(generator=draw)[3] = 0
    norm.bias.data.normal_(generator=draw)
    norm.running_mean.normal_(generator=draw)
    norm.running_var.uniform_(0.5, 2, generator=draw)
    block.train(training).to(torch.float64 if dtype == torch.float64 else torch.float32)
    norm.track_running_stats = tracked or not training
    convolution.requires_grad_(False)
    naive = copy.deepcopy(block)
    images = torch.randn(CHUNK + 9, 3, 13, 10, generator=draw).to(norm.weight.dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = block(images)
        expected = torch.nn.functional.max_pool2d(naive[1](naive[0](images)), 2).relu()
    assert (norm.weight < 0).any() and (expected == 0).any() and (expected > 0).any()
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    weights = torch.randn(found.shape, generator=draw).to(found.dtype)
    smooth = (expected > tolerance) | (expected == 0)  # a unit at the kink may be on either side of it
    gradients = [
        torch.autograd.grad((maps * weights * smooth).sum(), list(module[1].parameters()))
        for maps, module in ((found, block), (expected, naive))
    ]
    for given, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(given, wanted, atol=50 * tolerance, rtol=50 * tolerance)
    for (name, given), wanted in zip(block.named_buffers(), naive.buffers(), strict=True):
        torch.testing.assert_close(given, wanted, atol=tolerance, rtol=tolerance, msg=name)
    assert norm.num_batches_tracked == (1 if training and tracked else 0)


def test_a_trained_convolution_gets_its_gradients():
    block = conv4_block(3, 4, torch_generator(0, "block"), pool=True).train()
    block(torch.randn(2, 3, 8, 8, generator=torch_generator(0, "images"))).sum().backward()
    assert block[0].weight.grad is not None
    images = torch.randn(2, 3, 8, 8, generator=torch_generator(0, "images")).requires_grad_()
    block[0].requires_grad_(False)
    block(images).sum().backward()
    assert images.grad is not None and images.grad.any()


def test_a_bias_that_is_trained_alone_gets_its_gradient():
    block = conv4_block(3, 4, torch_generator(0, "block"), pool=True).eval()
    block[0].weight.requires_grad_(False)
    block(torch.randn(2, 3, 8, 8, generator=torch_generator(0, "images"))).sum().backward()
    assert block[0].bias.grad is not None


def test_a_block_in_half_precision_runs():
    block = conv4_block(3, 4, torch_generator(0, "block"), pool=True).eval().requires_grad_(False).bfloat16()
    images = torch.randn(2, 3, 8, 8, generator=torch_generator(0, "images")).bfloat16()
    assert block(images).dtype == torch.bfloat16


def test_tensor_names_are_those_of_the_released_checkpoints():
    parts = ["0.weight", "0.bias"]
    parts += [f"1.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
    assert list(make().state_dict()) == [f"layer{i}.{part}" for i in (1, 2, 3, 4) for part in parts]


def test_weights_depend_on_the_generator_alone():
    before = torch.get_rng_state()
    first, again, other = make(seed=1), make(seed=1), make(seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.layer4[0].weight, again.layer4[0].weight)
    assert not torch.equal(first.layer4[0].weight, other.layer4[0].weight)
    assert first.layer4[0].weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert not first.layer1[0].bias.any()


def test_channels_last_gives_the_same_features():
    images = torch.randn(4, 3, 32, 32, generator=torch_generator(0, "images"))
    backbone = make().eval()
    expected = backbone(images)
    backbone = backbone.to(memory_format=torch.channels_last)
    found = backbone(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
