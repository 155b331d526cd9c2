"""Conv-4 with four pools and a flattened map: the features of MAML's network."""

import pytest
import torch

from rayfs.backbones import Conv4, Conv4Flat, n_parameters
from rayfs.randomness import torch_generator


def make(width: int = 32, image_size: int = 84, in_channels: int = 3, seed: int = 0) -> Conv4Flat:
    return Conv4Flat(in_channels, width, image_size, generator=torch_generator(seed, "weights"))


def images(size: int, n: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=torch_generator(0, "images"))


def test_parameters_counted_by_hand():
    assert n_parameters(make()) == (3 * 9 + 1) * 32 + 3 * (32 * 9 + 1) * 32 + 4 * 2 * 32 == 28_896


@pytest.mark.parametrize(
    ("width", "size", "features"),
    [(32, 84, 800), (64, 84, 1600), (32, 32, 128), (64, 32, 256), (64, 28, 64), (32, 16, 32)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_width_times_the_pixels_of_the_last_map(width, size, features, channels):
    backbone = make(width, size, channels).eval()
    assert backbone.n_features == features
    assert backbone(images(size, channels=channels)).shape == (2, features)


def test_features_equal_a_loop_over_filters_and_pixels():
    backbone = make(width=2, image_size=16).eval()
    maps = images(16, n=1)[0]
    for layer in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        maps = naive_block(maps, layer[0].weight, layer[0].bias)
    torch.testing.assert_close(backbone(images(16, n=1))[0], maps.flatten(), atol=1e-5, rtol=1e-5)


def naive_block(maps_CHW: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Convolution, batch norm at its initial state, ReLU and pool, one output pixel at a time."""
    n_filters, side = len(weight), maps_CHW.shape[-1]
    padded = torch.zeros(len(maps_CHW), side + 2, side + 2)
    padded[:, 1:-1, 1:-1] = maps_CHW
    out = torch.empty(n_filters, side, side)
    for f in range(n_filters):
        for y in range(side):
            for x in range(side):
                value = (padded[:, y : y + 3, x : x + 3] * weight[f]).sum() + bias[f]
                out[f, y, x] = (value / (1 + 1e-5) ** 0.5).clamp(min=0)
    pooled = torch.empty(n_filters, side // 2, side // 2)
    for y in range(side // 2):
        for x in range(side // 2):
            pooled[:, y, x] = out[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].amax((1, 2))
    return pooled


def test_tensors_and_their_initial_values_are_those_of_the_pooled_network():
    flat = make(width=64).state_dict()
    pooled = Conv4(generator=torch_generator(0, "weights")).state_dict()
    assert list(flat) == list(pooled)
    assert all(torch.equal(flat[name], pooled[name]) for name in flat)


def test_order_of_the_features_does_not_depend_on_the_memory_layout():
    backbone, batch = make(width=8).eval(), images(84)
    expected = backbone(batch)
    backbone = backbone.to(memory_format=torch.channels_last)
    found = backbone(batch.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
