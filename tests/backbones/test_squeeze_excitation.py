"""Squeeze-and-excitation: the formula in a loop, and SEResNet-12's size, names and place of it."""

import torch

from rayfs.backbones import ResNet12, n_parameters
from rayfs.backbones.squeeze_excitation import SqueezeExcitation
from rayfs.randomness import torch_generator


def seresnet(widths=(4, 8, 8, 12), seed: int = 0) -> ResNet12:
    return ResNet12(widths=widths, squeeze_excitation=True, generator=torch_generator(seed, "weights")).eval()


def test_rescaled_maps_equal_a_loop_over_images_and_channels():
    layer = SqueezeExcitation(8, generator=torch_generator(0, "weights"))
    maps = torch.randn(3, 8, 5, 4, generator=torch_generator(0, "maps"))
    (w1, b1), (w2, b2) = ((layer.fc[i].weight, layer.fc[i].bias) for i in (0, 2))
    expected = torch.empty_like(maps)
    for n in range(3):
        mean = [maps[n, c].sum() / 20 for c in range(8)]
        hidden = [max(sum(w1[h, c] * mean[c] for c in range(8)) + b1[h], torch.tensor(0.0)) for h in range(2)]
        for c in range(8):
            logit = sum(w2[c, h] * hidden[h] for h in range(2)) + b2[c]
            expected[n, c] = maps[n, c] / (1 + torch.exp(-logit))
    torch.testing.assert_close(layer(maps), expected, atol=1e-6, rtol=1e-6)


def test_seresnet12_parameters_counted_by_hand():
    added = sum(2 * c * (c // 4) + c // 4 + c for c in (64, 160, 320, 640))
    backbone = ResNet12(squeeze_excitation=True, generator=torch_generator(0, "weights"))
    assert n_parameters(backbone) == 12_424_320 + added == 12_696_648
    assert backbone.n_features == 640


def test_tensor_names_are_those_of_the_released_checkpoints():
    plain = ResNet12(widths=(4, 8, 8, 12), generator=torch_generator(0, "weights"))
    added = set(seresnet().state_dict()) - set(plain.state_dict())
    parts = ("0.weight", "0.bias", "2.weight", "2.bias")
    assert added == {f"layer{i}.0.se.fc.{part}" for i in (1, 2, 3, 4) for part in parts}


def test_maps_are_rescaled_after_the_third_norm_and_before_the_sum():
    block = seresnet().layer1[0]
    maps = torch.randn(2, 3, 8, 8, generator=torch_generator(0, "maps"))
    seen = {}
    block.bn3.register_forward_hook(lambda module, given, out: seen.update(norm=out))
    block.se.register_forward_hook(lambda module, given, out: seen.update(given=given[0], rescaled=out))
    out = block(maps)
    assert seen["given"] is seen["norm"]
    expected = torch.nn.functional.leaky_relu(seen["rescaled"] + block.downsample(maps), 0.1)
    torch.testing.assert_close(out, torch.nn.functional.max_pool2d(expected, 2))


def test_features_depend_on_the_image_and_not_on_the_memory_layout():
    backbone = seresnet()
    batch = torch.randn(2, 3, 32, 32, generator=torch_generator(0, "images"))
    expected = backbone(batch)
    assert expected.shape == (2, 12) and not torch.equal(expected[0], expected[1])
    backbone = backbone.to(memory_format=torch.channels_last)
    found = backbone(batch.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
