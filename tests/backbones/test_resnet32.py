"""ResNet-32 and its family: published sizes, maps, names, and the network written out."""

import pytest
import torch
from torch.nn import functional as F

from rayfs.backbones import create_backbone, n_parameters
from rayfs.backbones.resnet32 import CifarResNet
from rayfs.randomness import torch_generator


def make(depth: int = 20, seed: int = 0, in_channels: int = 3) -> CifarResNet:
    return CifarResNet(depth, in_channels, generator=torch_generator(seed, "weights"))


def images(size: int = 32, n: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=torch_generator(0, "images"))


@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)], ids=lambda value: str(value)
)
def test_backbone_and_head_of_ten_classes_have_the_parameters_of_table_6_of_the_paper(depth, millions):
    backbone = create_backbone(f"resnet{depth}", 3, 32, torch_generator(0, "weights"))
    assert backbone.n_features == 64
    total = (n_parameters(backbone) + 65 * 10) / 1e6
    assert round(total, 1 if depth == 110 else 2) == millions


def test_parameters_counted_by_hand():
    def block(n_inputs, n_outputs):
        return 9 * n_inputs * n_outputs + 2 * n_outputs + 9 * n_outputs**2 + 2 * n_outputs

    stages = [5 * block(16, 16), block(16, 32) + 4 * block(32, 32), block(32, 64) + 4 * block(64, 64)]
    assert n_parameters(make(32)) == 27 * 16 + 2 * 16 + sum(stages) == 463_504


@pytest.mark.parametrize(("size", "sides"), [(32, [32, 16, 8]), (28, [28, 14, 7]), (3, [3, 2, 1])])
def test_two_of_three_stages_halve_the_map(size, sides):
    backbone = make().eval()
    maps, found = backbone.conv1(images(size)), []
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3):
        maps = stage(maps)
        found.append(maps.shape[-1])
    assert found == sides
    assert backbone(images(size)).shape == (2, 64)


def test_tensor_names_are_those_of_ldam():
    names = [name for name in make(32).state_dict() if name.endswith("weight")]
    first = ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer1.0.conv2.weight"]
    assert names[:5] == first
    assert names[-1] == "layer3.4.bn2.weight"
    assert len(names) == 2 + 15 * 4  # the shortcuts have no parameters


def naive(backbone: CifarResNet, x: torch.Tensor) -> torch.Tensor:
    """Compute the features from the state dict alone, image by image, padding channels one at a time."""
    state = backbone.state_dict()

    def norm(maps: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (maps - mean) / torch.sqrt(var + 1e-5) * weight + bias

    features = []
    for image in x:
        maps = torch.relu(norm(F.conv2d(image[None], state["conv1.weight"], padding=1)[0], "bn1"))
        for layer, width in ((1, 16), (2, 32), (3, 64)):
            for index in range(3):
                name, stride = f"layer{layer}.{index}", 2 if layer > 1 and index == 0 else 1
                out = F.conv2d(maps[None], state[f"{name}.conv1.weight"], stride=stride, padding=1)[0]
                out = torch.relu(norm(out, f"{name}.bn1"))
                out = norm(F.conv2d(out[None], state[f"{name}.conv2.weight"], padding=1)[0], f"{name}.bn2")
                shortcut = torch.zeros_like(out)
                before = (width - len(maps)) // 2
                for channel, map_HW in enumerate(maps):
                    shortcut[before + channel] = map_HW[::stride, ::stride]
                maps = torch.relu(out + shortcut)
        features.append(maps.mean((1, 2)))
    return torch.stack(features)


def test_features_are_those_of_the_network_written_out():
    backbone = make().eval()
    for index, module in enumerate(m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        module.running_mean.normal_(generator=torch_generator(index, "mean")).mul_(0.1)
        module.running_var.uniform_(0.5, 1.5, generator=torch_generator(index, "var"))
    with torch.no_grad():
        torch.testing.assert_close(backbone(images(size=11)), naive(backbone, images(size=11)), atol=1e-4, rtol=1e-4)


def test_weights_depend_on_the_generator_alone():
    before = torch.get_rng_state()
    assert torch.equal(make().conv1.weight, make().conv1.weight)
    assert not torch.equal(make().conv1.weight, make(seed=1).conv1.weight)
    assert torch.equal(torch.get_rng_state(), before)
    assert make(in_channels=1)(images(channels=1)).shape == (2, 64)
