"""ResNets and MobileNet of torchvision: size, features, published checkpoints, and the source of their weights."""

import pytest
import torch
import torchvision

from rayfs.backbones import create_backbone, load_checkpoint, n_features, n_parameters
from rayfs.errors import InputError
from rayfs.randomness import torch_generator


def make(name: str, channels: int = 3, size: int = 32, seed: int = 0) -> torch.nn.Module:
    return create_backbone(name, channels, size, torch_generator(seed, "weights"))


def images(size: int = 32, n: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=torch_generator(0, "images"))


@pytest.mark.parametrize(
    ("name", "parameters", "features"),
    [
        ("resnet18", 11_176_512, 512),
        ("resnet50", 23_508_032, 2048),
        ("resnet101", 42_500_160, 2048),
        ("resnet152", 58_143_808, 2048),
        ("resnext50", 22_979_904, 2048),
        ("mobilenet-1.0", 2_223_872, 1280),
        ("mobilenet-1", 2_223_872, 1280),
        ("mobilenet-0.5", 687_680, 1280),
    ],
)
def test_backbones_without_their_classifier_have_the_published_number_of_parameters(name, parameters, features):
    backbone = make(name)
    assert (n_parameters(backbone), n_features(backbone)) == (parameters, features)


@pytest.mark.parametrize(("width", "features"), [("0.25", 1280), ("1.0", 1280), ("1.4", 1792)])
def test_a_mobilenet_has_1280_features_and_more_only_where_it_is_wider_than_1(width, features):
    assert n_features(make(f"mobilenet-{width}")) == features


@pytest.mark.parametrize("name", ["resnet18", "resnext50", "mobilenet-0.25"])
def test_one_channel_and_the_smallest_image_give_one_vector_an_image_in_either_layout(name):
    backbone = make(name, channels=1, size=17).eval()
    batch = images(17, channels=1)
    expected = backbone(batch)
    assert expected.shape == (2, backbone.n_features)
    backbone = backbone.to(memory_format=torch.channels_last)
    found = backbone(batch.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("size", "sides"), [(17, [(3, 2), (2, 1)]), (16, [(2, 1), (1, 1)])])
def test_the_least_image_size_is_where_the_last_halving_starts_from_two_pixels(size, sides):
    backbone, found = make("resnet18").eval(), []
    for stage in (backbone.layer3, backbone.layer4):
        stage.register_forward_hook(lambda module, given, out: found.append((given[0].shape[-1], out.shape[-1])))
    backbone(images(size))
    assert found == sides


@pytest.mark.parametrize(
    ("name", "published", "head"),
    [
        ("resnet18", lambda: torchvision.models.resnet18(num_classes=7), "fc"),
        ("mobilenet-0.25", lambda: torchvision.models.mobilenet_v2(num_classes=7, width_mult=0.25), "classifier.1"),
    ],
)
def test_published_checkpoint_loads_and_gives_the_features_before_the_head(tmp_path, name, published, head):
    with torch.random.fork_rng(devices=[]):
        model = published().eval()
    torch.save(model.state_dict(), tmp_path / "imagenet.pth")
    backbone = make(name).eval()
    report = load_checkpoint(tmp_path / "imagenet.pth", backbone)
    assert report.ignored == (f"{head}.weight", f"{head}.bias")
    layer = model.get_submodule(head)
    torch.testing.assert_close(layer(backbone(images())), model(images()))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet-0.25"])
@pytest.mark.parametrize("channels", [1, 3])
def test_weights_depend_on_the_generator_alone_and_the_global_state_stays(name, channels):
    before = torch.get_rng_state()
    first = make(name, channels, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.rand(1)  # moves the global stream, which must not matter
        again, other = make(name, channels, seed=1).state_dict(), make(name, channels, seed=2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    moved = [key for key in first if first[key].ndim == 4 and not torch.equal(first[key], other[key])]
    assert moved == [key for key in first if first[key].ndim == 4]


def test_first_convolution_for_other_channels_starts_by_the_formula_of_torchvision():
    weight = make("resnet18", channels=4).conv1.weight
    assert weight.shape == (64, 4, 7, 7)
    assert weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.03)


def test_a_width_of_zero_is_refused():
    with pytest.raises(InputError, match=r"'mobilenet-0' has no filters; take a width above 0"):
        make("mobilenet-0.0")
