"""ResNet-12: size, shapes, names, initialisation, and that training mode is reproducible from its generator."""

import copy

import pytest
import torch

from rayfs.backbones import ResNet12, n_parameters, reset_ramp, set_generator
from rayfs.backbones.regularisation import DropBlock, Dropout
from rayfs.backbones.resnet12 import dropblock_size_for
from rayfs.randomness import torch_generator

NARROW = (4, 6, 8, 10)


def narrow(seed: int = 0, **options) -> ResNet12:
    return ResNet12(widths=NARROW, generator=torch_generator(seed, "weights"), **options)


def images(n: int = 3, channels: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=torch_generator(0, "images"))


def test_default_backbone_has_the_published_number_of_parameters():
    backbone = ResNet12(generator=torch_generator(0, "weights"))
    assert n_parameters(backbone) == 12_424_320
    assert backbone.n_features == 640


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 28, 32, 84])
@pytest.mark.parametrize("training", [False, True])
def test_features_have_the_width_of_the_last_block(channels, size, training):
    backbone = narrow(in_channels=channels, dropblock_size=dropblock_size_for(size)).train(training)
    set_generator(backbone, torch_generator(0, "dropout"))
    features = backbone(images(2, channels, size))
    assert features.shape == (2, 10)
    assert features.isfinite().all()


@pytest.mark.parametrize(("size", "sides"), [(84, [42, 21, 10, 5]), (32, [16, 8, 4, 2]), (28, [14, 7, 3, 1])])
def test_each_block_halves_the_map(size, sides):
    backbone = narrow().eval()
    maps, found = images(1, 3, size), []
    for layer in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        maps = layer(maps)
        found.append(maps.shape[-1])
    assert found == sides


def test_dropblock_size_is_that_of_the_released_code_at_its_two_image_sizes():
    assert {size: dropblock_size_for(size) for size in (28, 32, 64, 79, 80, 84, 224)} == {
        28: 2,
        32: 2,
        64: 2,
        79: 2,
        80: 5,
        84: 5,
        224: 5,
    }


def test_tensor_names_are_those_of_the_released_checkpoints():
    names = set(narrow().state_dict())
    one_block = {f"conv{i}.weight" for i in (1, 2, 3)} | {"downsample.0.weight"}
    for norm in ("bn1", "bn2", "bn3", "downsample.1"):
        one_block |= {
            f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        }
    assert names == {f"layer{i}.0.{name}" for i in (1, 2, 3, 4) for name in one_block}
    assert len(names) == 96


def test_a_block_equals_the_formula_written_out():
    backbone = narrow().eval()
    block, x = backbone.layer1[0], images(2)
    for norm in (block.bn1, block.bn2, block.bn3, block.downsample[1]):
        norm.running_mean.copy_(torch.randn(4, generator=torch_generator(1, "mean")))
        norm.running_var.copy_(torch.rand(4, generator=torch_generator(1, "var")) + 0.5)

    def norm(maps, bn):
        mean, var = bn.running_mean.view(1, -1, 1, 1), bn.running_var.view(1, -1, 1, 1)
        return (maps - mean) / (var + 1e-5).sqrt()

    def leaky(maps):
        return torch.where(maps > 0, maps, 0.1 * maps)

    def conv(maps, layer, padding):
        return torch.nn.functional.conv2d(maps, layer.weight, padding=padding)

    out = leaky(norm(conv(x, block.conv1, 1), block.bn1))
    out = leaky(norm(conv(out, block.conv2, 1), block.bn2))
    out = norm(conv(out, block.conv3, 1), block.bn3)
    out = leaky(out + norm(conv(x, block.downsample[0], 0), block.downsample[1]))
    expected = out.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


def test_convolutions_start_as_kaiming_normal_fan_out_and_norms_as_identity():
    backbone = ResNet12(widths=(64, 64, 64, 64), generator=torch_generator(0, "weights"))
    weight = backbone.layer2[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert abs(weight.mean().item()) < 0.002
    assert backbone.layer2[0].conv1.bias is None
    for name, parameter in backbone.named_parameters():
        if parameter.ndim == 1:
            assert (parameter == (1 if name.endswith("weight") else 0)).all(), name


def test_weights_depend_on_the_generator_alone():
    first = narrow(seed=1).state_dict()
    torch.rand(1)  # moves the global stream, which must not matter
    again, other = narrow(seed=1).state_dict(), narrow(seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layer1.0.conv1.weight"], other["layer1.0.conv1.weight"])


def test_global_random_state_is_untouched_by_construction_and_training():
    before = torch.get_rng_state()
    backbone = narrow().train()
    set_generator(backbone, torch_generator(0, "dropout"))
    backbone(images()).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


def test_training_forward_is_a_function_of_the_generator():
    def run(seed):
        backbone = narrow(drop_rate=0.5).train()
        set_generator(backbone, torch_generator(seed, "dropout"))
        return backbone(images())

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_channels_last_gives_the_same_features_in_evaluation_and_in_training():
    def run(layout, training):
        backbone = narrow(drop_rate=0.5).to(memory_format=layout).train(training)
        set_generator(backbone, torch_generator(3, "dropout"))
        reset_ramp(backbone, 40_000)
        return backbone(images(4).contiguous(memory_format=layout))

    for training in (False, True):
        torch.testing.assert_close(
            run(torch.channels_last, training), run(torch.contiguous_format, training), atol=1e-4, rtol=1e-4
        )


def test_training_without_a_generator_is_refused_and_evaluation_is_not():
    backbone = narrow()
    backbone.eval()(images())
    with pytest.raises(RuntimeError, match=r"Dropout is in training mode with drop_rate 0.1 .*set_generator"):
        backbone.train()(images())


def test_training_without_dropout_needs_no_generator():
    assert narrow(drop_rate=0.0).train()(images()).isfinite().all()


def test_copies_start_without_a_generator_and_keep_their_own_ramp():
    backbone = narrow().train()
    set_generator(backbone, torch_generator(0, "dropout"))
    backbone(images())
    clone = copy.deepcopy(backbone)
    assert backbone.layer1[0].regularise.generator is not None
    with pytest.raises(RuntimeError, match="again after copying"):
        clone(images())
    set_generator(clone, torch_generator(0, "dropout"))
    clone(images())
    assert clone.layer3[0].regularise.n_forwards == 2
    assert backbone.layer3[0].regularise.n_forwards == 1


def test_regularisation_is_dropout_after_two_blocks_and_dropblock_after_two():
    backbone = narrow(drop_rate=0.2, dropblock_size=2)
    kinds = [
        type(layer[0].regularise) for layer in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)
    ]
    assert kinds == [Dropout, Dropout, DropBlock, DropBlock]
    assert all(m.drop_rate == 0.2 for m in backbone.modules() if isinstance(m, Dropout | DropBlock))


def test_gradients_reach_every_parameter():
    backbone = narrow().train()
    set_generator(backbone, torch_generator(0, "dropout"))
    backbone(images(8)).square().sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
