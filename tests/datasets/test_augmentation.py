"""Views: the same as torchvision's per-image transforms given the parameters, and parameters by torchvision's laws."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from pictures import picture
from torchvision import transforms

from rayfs.datasets.augmentation import (
    Augmentation,
    ViewParameters,
    apply_views,
    draw_views,
    normalize,
    plain_view,
)
from rayfs.datasets.registry import OMNIGLOT_AUGMENTATION
from rayfs.errors import InputError
from rayfs.randomness import torch_generator

PHOTOS = Augmentation(crop_padding=4, jitter=0.4, flip=True)
EVERYTHING = Augmentation(crop_padding=4, jitter=0.4, flip=True, rotation_deg=20, scale=0.2, shear_deg=15)
ORDERS = list(itertools.permutations(range(3)))
ADJUST = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)


def images(n: int = 12, size: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(picture(0, n * size, size, channels).reshape(n, size, size, channels))


def views_of(n: int, config: Augmentation, seed: int = 0) -> ViewParameters:
    return draw_views(n, config, torch_generator(seed, "views"))


def rows(views: ViewParameters, chosen: list[int]) -> ViewParameters:
    return ViewParameters(**{name: tensor[chosen] for name, tensor in vars(views).items()})


def as_torchvision(image: torch.Tensor, config: Augmentation, views: ViewParameters, i: int) -> torch.Tensor:
    """Make view `i` of one (H, W, C) image by torchvision's functions, one after the other."""
    x, size = image.permute(2, 0, 1), image.shape[0]
    top, left = views.offsets[i].tolist()
    x = TF.crop(TF.pad(x, config.crop_padding, config.fill), top, left, size, size).float() / 255
    angle, zoom, shear = views.affine[i].tolist()
    x = TF.affine(x, angle, [0, 0], zoom, [shear, 0], interpolation=TF.InterpolationMode.BILINEAR)
    for kind in views.orders[i].tolist():
        x = ADJUST[kind](x, float(views.factors[i, kind]))
    return TF.hflip(x) if views.flips[i] else x


def naive(batch: torch.Tensor, config: Augmentation, views: ViewParameters) -> torch.Tensor:
    return torch.stack([as_torchvision(image, config, views, i) for i, image in enumerate(batch)])


def check_close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0, check_stride=False)


# Against torchvision, image by image


@pytest.mark.parametrize(
    "config",
    [
        Augmentation(crop_padding=4),
        Augmentation(crop_padding=4, fill=255),
        Augmentation(jitter=0.4),
        Augmentation(jitter=1.0),
        Augmentation(flip=True),
        Augmentation(rotation_deg=30),
        Augmentation(scale=0.3),
        Augmentation(shear_deg=20),
        Augmentation(rotation_deg=30, scale=0.3, shear_deg=20),
        PHOTOS,
        EVERYTHING,
    ],
    ids=lambda config: ", ".join(f"{name}={value}" for name, value in vars(config).items() if value),
)
@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_those_of_torchvisions_functions(config, channels):
    batch, views = images(channels=channels), views_of(12, config)
    check_close(apply_views(batch, config, views), naive(batch, config, views))


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_jitter_is_applied_in_the_order_of_each_image(order):
    config = Augmentation(jitter=0.4)
    views = replace(views_of(12, config), orders=torch.tensor([order] * 12))
    check_close(apply_views(images(), config, views), naive(images(), config, views))


@pytest.mark.parametrize("size", [28, 29])
def test_affine_views_of_even_and_odd_sizes_turn_about_the_centre(size):
    config = Augmentation(rotation_deg=30, scale=0.3, shear_deg=20)
    views = views_of(12, config)
    check_close(apply_views(images(size=size), config, views), naive(images(size=size), config, views))


def test_a_quarter_turn_is_exact():
    views = replace(views_of(3, EVERYTHING), affine=torch.tensor([[90.0, 1, 0], [-90, 1, 0], [180, 1, 0]]))
    config = Augmentation(rotation_deg=180)
    plain = plain_view(images(3))
    turned = torch.stack([plain[0].rot90(-1, (1, 2)), plain[1].rot90(1, (1, 2)), plain[2].rot90(2, (1, 2))])
    check_close(apply_views(images(3), config, views), turned)


def test_resized_crops_are_those_of_torchvision_inside_their_rim():
    """At the rim torchvision repeats the last pixels inside the box, where ours takes those outside it in."""
    boxes = torch.tensor([[0, 0, 1, 1], [4, 8, 16, 16], [0, 16, 32, 16], [10, 0, 8, 24]]) / torch.tensor(32)
    boxes[0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    views = replace(views_of(4, Augmentation(crop_area=0.5)), boxes=boxes)
    found = apply_views(images(4), Augmentation(crop_area=0.5), views)
    for image, (left, top, width, height), view in zip(images(4), (32 * boxes).int().tolist(), found, strict=True):
        cut = TF.crop(image.permute(2, 0, 1).float() / 255, top, left, height, width)
        expected = TF.resize(cut, [32, 32], antialias=False)
        rim = 32 // min(width, height)
        check_close(view[:, rim:-rim, rim:-rim], expected[:, rim:-rim, rim:-rim])


# By hand


def test_crop_takes_the_window_at_the_offsets():
    config = Augmentation(crop_padding=1, fill=9)
    batch = torch.arange(1, 5, dtype=torch.uint8).view(1, 2, 2, 1).expand(3, 2, 2, 1)
    views = replace(views_of(3, config), offsets=torch.tensor([[0, 0], [1, 1], [2, 0]]))
    expected = torch.tensor([[[9, 9], [9, 1]], [[1, 2], [3, 4]], [[9, 3], [9, 9]]])
    check_close(apply_views(batch, config, views), expected[:, None] / 255)


@pytest.mark.parametrize("fill", [0, 128, 255])
def test_pixels_from_outside_have_the_fill_value(fill):
    config = Augmentation(crop_padding=8, rotation_deg=45, scale=0.5, fill=fill)
    blank = torch.full((50, 16, 16, 1), fill, dtype=torch.uint8)
    check_close(apply_views(blank, config, views_of(50, config)), plain_view(blank))


def test_zoomed_out_image_is_surrounded_by_the_fill_value():
    config = Augmentation(scale=0.5, fill=255)
    views = replace(views_of(1, config), affine=torch.tensor([[0.0, 0.5, 0.0]]))
    view = apply_views(torch.zeros(1, 16, 16, 1, dtype=torch.uint8), config, views)[0, 0]
    assert (view[6:10, 6:10] == 0).all()
    assert (view[:3] == 1).all()
    assert (view[:, -3:] == 1).all()


def test_brightness_scales_and_clips():
    config = Augmentation(jitter=0.5)
    batch = torch.tensor([100, 200], dtype=torch.uint8).view(1, 1, 2, 1)
    views = replace(views_of(1, config), factors=torch.tensor([[1.5, 1, 1]]))
    check_close(apply_views(batch, config, views), torch.tensor([150, 255]).view(1, 1, 1, 2) / 255)


def test_contrast_moves_values_away_from_the_mean_grey():
    config = Augmentation(jitter=0.5)
    batch = torch.tensor([100, 200], dtype=torch.uint8).view(1, 1, 2, 1)
    views = replace(views_of(1, config), factors=torch.tensor([[1, 0.5, 1]]))
    check_close(apply_views(batch, config, views), torch.tensor([125, 175]).view(1, 1, 1, 2) / 255)


def test_saturation_moves_a_colour_towards_its_grey_and_leaves_grey_images_alone():
    config = Augmentation(jitter=1.0)
    views = replace(views_of(1, config), factors=torch.tensor([[1.0, 1, 0]]))
    colour = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 1, 1, 3)
    check_close(apply_views(colour, config, views), torch.full((1, 3, 1, 1), 0.2989))
    grey = images(1, channels=1)
    check_close(apply_views(grey, config, views), plain_view(grey))


def test_nothing_happens_when_everything_is_zero():
    config = Augmentation()
    assert torch.equal(apply_views(images(), config, views_of(12, config)), plain_view(images()))


def test_plain_view_scales_to_one():
    batch = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    assert plain_view(batch).flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert plain_view(batch).shape == (1, 3, 1, 1)


def test_normalize_subtracts_and_divides_by_channel():
    x = torch.tensor([0.5, 0.25]).view(1, 2, 1, 1)
    assert normalize(x, (0.25, 0.5), (0.5, 0.125)).flatten().tolist() == [0.5, -2]
    check_close(normalize(plain_view(images()), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
          TF.normalize(plain_view(images()), [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]))  # fmt: skip


# Form


@pytest.mark.parametrize("config", [Augmentation(), PHOTOS, EVERYTHING, OMNIGLOT_AUGMENTATION])
@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_float_in_unit_range_and_channels_last_in_memory_once_normalized(config, channels):
    views = apply_views(images(channels=channels), config, views_of(12, config))
    assert (views.dtype, tuple(views.shape)) == (torch.float32, (12, channels, 32, 32))
    normalized = normalize(views, (0.5,) * channels, (0.2,) * channels)
    assert normalized.is_contiguous(memory_format=torch.channels_last)
    assert float(views.min()) >= 0
    assert float(views.max()) <= 1 + 1e-6  # bilinear weights sum to one up to rounding


@pytest.mark.parametrize("config", [PHOTOS, EVERYTHING])
def test_view_of_an_image_depends_on_its_own_parameters_alone(config):
    batch, views = images(), views_of(12, config)
    together = apply_views(batch, config, views)
    for chosen in ([3], [11, 0, 5], list(range(11, -1, -1))):
        torch.testing.assert_close(
            apply_views(batch[chosen], config, rows(views, chosen)), together[chosen], atol=1e-6, rtol=0
        )


def test_images_are_left_as_they_are():
    batch = images()
    apply_views(batch, EVERYTHING, views_of(12, EVERYTHING))
    apply_views(batch, Augmentation(), views_of(12, Augmentation()))
    assert torch.equal(batch, images())


def test_draws_come_from_the_generator_alone():
    before, cropped = torch.get_rng_state(), replace(EVERYTHING, crop_area=0.3)
    first, again, other = views_of(12, cropped), views_of(12, cropped), views_of(12, cropped, seed=1)
    apply_views(images(), cropped, first)
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in vars(first).items():
        assert torch.equal(tensor, getattr(again, name))
        assert not torch.equal(tensor, getattr(other, name))


def test_turning_a_part_off_does_not_change_the_draws_of_the_others():
    whole = views_of(50, EVERYTHING)
    for part, name in (("jitter", "flips"), ("flip", "factors"), ("rotation_deg", "offsets"), ("scale", "orders")):
        without = replace(EVERYTHING, **{part: type(getattr(EVERYTHING, part))(0)})
        assert torch.equal(getattr(views_of(50, without), name), getattr(whole, name))
    assert torch.equal(views_of(50, replace(EVERYTHING, crop_padding=0)).factors, whole.factors)
    cropped = views_of(50, replace(EVERYTHING, crop_area=0.3))
    assert all(torch.equal(getattr(cropped, name), tensor) for name, tensor in vars(whole).items() if name != "boxes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jitter": 1.1}, "^jitter is 1.1 and scale 0.0; expected 0 to 1, and 0 to less than 1"),
        ({"jitter": -0.1}, "^jitter is -0.1"),
        ({"scale": 1.0}, "and scale 1.0; expected"),
        ({"crop_padding": -1}, "^crop_padding is -1 and fill 0; expected >= 0 and 0 to 255$"),
        ({"crop_area": 0.0}, "^crop_area is 0.0; expected a share of the image, above 0 and up to 1$"),
        ({"crop_area": 1.1}, "^crop_area is 1.1"),
        ({"fill": 256}, "^crop_padding is 0 and fill 256"),
    ],
)
def test_impossible_views_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Augmentation(**change)


# Laws of the parameters: 20,000 views with a fixed seed, bounds of about five standard deviations

N = 20_000


@pytest.fixture(scope="module")
def drawn() -> ViewParameters:
    return views_of(N, EVERYTHING)


def assert_uniform(values: torch.Tensor, low: float, high: float) -> None:
    """Kolmogorov and Smirnov's distance from the uniform law on [low, high]."""
    scaled = (np.sort(values.numpy().astype(np.float64)) - low) / (high - low)
    assert scaled[0] >= -1e-6
    assert scaled[-1] <= 1 + 1e-6
    assert np.abs(scaled - np.arange(N) / N).max() < 2.0 / N**0.5


def assert_equally_frequent(values: torch.Tensor, n: int) -> None:
    counts = np.bincount(values.numpy(), minlength=n)
    assert len(counts) == n
    assert ((counts - N / n) ** 2 / (N / n)).sum() < (n - 1) + 5 * (2 * (n - 1)) ** 0.5


def test_crop_offsets_are_uniform_from_zero_to_twice_the_padding(drawn):
    for axis in range(2):
        assert_equally_frequent(drawn.offsets[:, axis], 9)
    assert_equally_frequent(drawn.offsets[:, 0] * 9 + drawn.offsets[:, 1], 81)


def test_jitter_factors_are_uniform_about_one(drawn):
    for kind in range(3):
        assert_uniform(drawn.factors[:, kind], 0.6, 1.4)


def test_all_six_orders_are_equally_frequent(drawn):
    numbers = torch.tensor([ORDERS.index(tuple(order)) for order in drawn.orders.tolist()])
    assert_equally_frequent(numbers, 6)


def test_half_of_the_views_are_mirrored_or_none(drawn):
    assert_equally_frequent(drawn.flips.long(), 2)
    assert not views_of(N, replace(EVERYTHING, flip=False)).flips.any()


def test_affine_parameters_are_uniform_in_their_ranges(drawn):
    for column, (low, high) in enumerate([(-20, 20), (0.8, 1.2), (-15, 15)]):
        assert_uniform(drawn.affine[:, column], low, high)


def test_resized_crops_have_the_law_of_torchvisions():
    """Quantiles of left, top, width, height and area of 3,000 boxes against those of RandomResizedCrop."""
    boxes = draw_views(N, Augmentation(crop_area=0.08), torch_generator(0, "views")).boxes.double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        picture = torch.empty(3, 10_000, 10_000, device="meta")
        expected = [transforms.RandomResizedCrop.get_params(picture, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(3_000)]
    reference = torch.tensor(expected).double()[:, [1, 0, 3, 2]] / 10_000
    quantiles = torch.linspace(0.02, 0.98, 25).double()
    for values, others in zip(with_area(boxes), with_area(reference), strict=True):
        found, wanted = torch.quantile(values, quantiles), torch.quantile(others, quantiles)
        assert float((found - wanted).abs().max()) < 0.03
    assert float(boxes.min()) >= 0 and float((boxes[:, :2] + boxes[:, 2:]).max()) <= 1 + 1e-6
    assert float((boxes[:, 2] * boxes[:, 3]).min()) >= 0.08 - 1e-6


def with_area(boxes: torch.Tensor) -> list[torch.Tensor]:
    return [*boxes.T, boxes[:, 2] * boxes[:, 3]]


def test_parameters_are_independent_of_each_other(drawn):
    columns = torch.cat(
        [drawn.offsets.double(), drawn.factors.double(), drawn.orders[:, :2].double(), drawn.flips[:, None].double(),
         drawn.affine.double()], dim=1,
    )  # fmt: skip
    correlations = torch.corrcoef(columns.T) - torch.eye(columns.shape[1])
    correlations[5, 6] = correlations[6, 5] = 0  # first and second of an order differ
    assert float(correlations.abs().max()) < 5 / N**0.5


# Against torchvision's random transforms on real images


def random_views(batch: torch.Tensor, transform, seed: int) -> torch.Tensor:
    """Apply a transform of torchvision, whose draws come from the global generator, to each image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([transform(image) for image in plain_view(batch)])


def mean_and_std(views: torch.Tensor) -> tuple[float, float]:
    """Means over the views of the pixels' mean and of their standard deviation."""
    return float(views.mean((1, 2, 3)).mean()), float(views.std((1, 2, 3)).mean())


def test_views_of_photographs_have_the_statistics_of_torchvisions(split_table):
    """3,000 views; one's mean deviates by about 0.13 and its deviation by 0.06, hence the tolerances of four errors."""
    batch = split_table("cifar-fs", "test").take(np.arange(0, 12_000, 4))
    transform = transforms.Compose(
        [transforms.RandomCrop(32, padding=4), transforms.ColorJitter(0.4, 0.4, 0.4), transforms.RandomHorizontalFlip()]
    )
    mean, std = mean_and_std(apply_views(batch, PHOTOS, views_of(3_000, PHOTOS)))
    expected_mean, expected_std = mean_and_std(random_views(batch, transform, seed=0))
    assert mean == pytest.approx(expected_mean, abs=0.013)
    assert std == pytest.approx(expected_std, abs=0.006)


def test_views_of_handwriting_have_the_statistics_of_torchvisions(split_table):
    """1,360 views; strokes cover few pixels, so means deviate by 0.03 and deviations by 0.05.

    torchvision transforms the negatives, with fill 0: with another fill it weighs the rim of the image twice.
    """
    batch = split_table("omniglot", "base").take(np.arange(0, 2_720, 2))
    transform = transforms.Compose(
        [
            transforms.Lambda(lambda x: 1 - x),
            transforms.RandomCrop(28, padding=2),
            transforms.RandomAffine(
                10, scale=(0.9, 1.1), shear=10, interpolation=transforms.InterpolationMode.BILINEAR
            ),
            transforms.Lambda(lambda x: 1 - x),
        ]
    )
    mean, std = mean_and_std(apply_views(batch, OMNIGLOT_AUGMENTATION, views_of(1_360, OMNIGLOT_AUGMENTATION)))
    expected_mean, expected_std = mean_and_std(random_views(batch, transform, seed=0))
    assert mean == pytest.approx(expected_mean, abs=0.004)
    assert std == pytest.approx(expected_std, abs=0.006)
