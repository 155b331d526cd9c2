"""Wide ResNet: published sizes, maps, names, the block written out, and what is refused."""

import pytest
import torch
from torch.nn import functional as F

from rayfs.backbones import WideResNet, n_parameters, set_generator
from rayfs.backbones.wide_resnet import PreActivationBlock
from rayfs.errors import InputError
from rayfs.randomness import torch_generator


def make(depth: int = 10, width: int = 1, seed: int = 0, **options) -> WideResNet:
    return WideResNet(depth, width, generator=torch_generator(seed, "weights"), **options)


def images(size: int = 32, n: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=torch_generator(0, "images"))


@pytest.mark.parametrize(
    ("depth", "width", "n_classes", "with_head"),
    [(28, 10, 10, 36_479_194), (40, 2, 100, 2_255_156), (16, 2, 100, 703_284), (40, 1, 100, 569_780)],
)
def test_backbone_and_linear_head_have_the_published_number_of_parameters(depth, width, n_classes, with_head):
    backbone = make(depth, width)
    assert backbone.n_features == 64 * width
    assert n_parameters(backbone) + (backbone.n_features + 1) * n_classes == with_head


def test_parameters_counted_by_hand():
    def block(n_inputs, n_outputs):
        shortcut = n_inputs * n_outputs if n_inputs != n_outputs else 0
        return 2 * n_inputs + 9 * n_inputs * n_outputs + 2 * n_outputs + 9 * n_outputs**2 + shortcut

    expected = 27 * 16 + block(16, 32) + block(32, 32) + block(32, 64) + block(64, 64) + block(64, 128)
    assert n_parameters(make(16, 2)) == expected + block(128, 128) + 2 * 128


@pytest.mark.parametrize(("size", "sides"), [(32, [32, 16, 8]), (28, [28, 14, 7]), (3, [3, 2, 1])])
def test_two_of_three_stages_halve_the_map(size, sides):
    backbone = make().eval()
    maps, found = backbone.conv1(images(size)), []
    for stage in (backbone.block1, backbone.block2, backbone.block3):
        maps = stage(maps)
        found.append(maps.shape[-1])
    assert found == sides
    assert backbone(images(size)).shape == (2, 64)


def test_tensor_names_are_those_of_the_usual_code():
    names = [name for name in make(16, 2).state_dict() if name.endswith("weight")]
    assert names[:9] == [
        "conv1.weight",
        "block1.layer.0.bn1.weight",
        "block1.layer.0.conv1.weight",
        "block1.layer.0.bn2.weight",
        "block1.layer.0.conv2.weight",
        "block1.layer.0.convShortcut.weight",
        "block1.layer.1.bn1.weight",
        "block1.layer.1.conv1.weight",
        "block1.layer.1.bn2.weight",
    ]
    assert names[-1] == "bn1.weight"
    assert len(names) == 1 + 3 * (5 + 4) + 1
    # At width 1 the first stage has the 16 channels of the first convolution already.
    assert [name for name in make(10, 1).state_dict() if "convShortcut" in name] == [
        "block2.layer.0.convShortcut.weight",
        "block3.layer.0.convShortcut.weight",
    ]


@pytest.mark.parametrize(("n_inputs", "width", "stride"), [(4, 4, 1), (4, 6, 1), (4, 6, 2)])
def test_a_block_equals_the_formula_written_out(n_inputs, width, stride):
    block = PreActivationBlock(n_inputs, width, stride, 0.0, torch_generator(0, "weights")).eval()
    for norm in (block.bn1, block.bn2):
        norm.running_mean.normal_(generator=torch_generator(1, "mean"))
        norm.running_var.uniform_(0.5, 1.5, generator=torch_generator(1, "var"))
    maps = images(8, channels=n_inputs)

    def activate(maps, norm):
        mean, var = norm.running_mean.view(1, -1, 1, 1), norm.running_var.view(1, -1, 1, 1)
        return ((maps - mean) / (var + 1e-5).sqrt()).clamp(min=0)

    activated = activate(maps, block.bn1)
    out = F.conv2d(activated, block.conv1.weight, padding=1, stride=stride)
    out = F.conv2d(activate(out, block.bn2), block.conv2.weight, padding=1)
    shortcut = maps if n_inputs == width else F.conv2d(activated, block.convShortcut.weight, stride=stride)
    torch.testing.assert_close(block(maps), out + shortcut, atol=1e-5, rtol=1e-5)


def test_weights_depend_on_the_generator_alone():
    before = torch.get_rng_state()
    first, again, other = make(seed=1).state_dict(), make(seed=1).state_dict(), make(seed=2).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_training_is_without_dropout_by_default_and_with_it_a_function_of_the_generator():
    def run(seed):
        backbone = make(drop_rate=0.3).train()
        set_generator(backbone, torch_generator(seed, "dropout"))
        return backbone(images())

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert make().train()(images()).isfinite().all()


def test_channels_last_gives_the_same_features():
    backbone = make(16, 2).eval()
    expected = backbone(images())
    backbone = backbone.to(memory_format=torch.channels_last)
    found = backbone(images().contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("depth", "width", "message"),
    [
        (27, 2, r"'wrn-27-2' has a depth of 27, .* need 6 n \+ 4 layers .*; take 22 or 28"),
        (41, 2, r"depth of 41, .*; take 40 or 46"),
        (4, 2, r"depth of 4, .*; take 10$"),
        (16, 0, r"width of 0; take 1 or more"),
    ],
)
def test_depths_and_widths_that_do_not_exist_are_refused(depth, width, message):
    with pytest.raises(InputError, match=message):
        make(depth, width)
