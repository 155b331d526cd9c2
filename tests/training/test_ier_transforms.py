"""IER's 16 transforms: window sizes and offsets, torchvision image by image, and their order."""

from dataclasses import replace

import pytest
import torch
import torchvision.transforms.functional as TF
from PIL import Image
from small_objectives import N_CLASSES, backbone, ier_gen0, images, photos

from rayfs.datasets.augmentation import Augmentation, ViewParameters
from rayfs.datasets.registry import Benchmark
from rayfs.randomness import torch_generator
from rayfs.training.objectives.ier_gen0.loss import ASPECTS, IerGen0, TransformDraws, window, window_size

WINDOWS_OF_16 = [(16, 16), (11, 16), (16, 11), (11, 11)]
"""Height and width of the four aspects of a 16-pixel image."""


def draws_of(objective: IerGen0, n: int) -> TransformDraws:
    return objective.draw(torch.arange(n), torch_generator(0, "views"))


@pytest.mark.parametrize(("size", "expected"), [(32, 22), (84, 56), (28, 19), (16, 11), (3, 2)])
def test_window_is_two_thirds_of_the_image(size, expected):
    assert window_size(size) == expected


@pytest.mark.parametrize(("size", "last"), [(32, 9), (84, 27)])
def test_offsets_are_those_of_the_released_code(size, last):
    objective = IerGen0(
        backbone(), photos(size=size), N_CLASSES, 2000, 1.0, 8, 0.9, 1.0, generator=torch_generator(0, "heads")
    )
    offsets = draws_of(objective, 2000).offsets_NA2
    for aspect, cropped in enumerate(ASPECTS):
        for side in range(2):
            expected = list(range(last + 1)) if cropped[side] else [0]
            assert offsets[:, aspect, side].unique().tolist() == expected


@pytest.mark.parametrize("cropped", ASPECTS[1:])
@pytest.mark.parametrize(("size", "kept"), [(32, 22), (84, 56)])
def test_windows_are_those_of_torchvision_and_of_pillow(cropped, size, kept):
    batch = images(3, size)
    offsets = torch.tensor([[0, 0], [9, 4], [3, 9]]) * torch.tensor(cropped)
    out = window(batch, cropped, offsets)
    assert out.dtype == torch.uint8 and out.shape == batch.shape
    height, width = (kept if crop else size for crop in cropped)
    for image, (top, left), view in zip(batch, offsets.tolist(), out, strict=True):
        box = (top, left, height, width, [size, size])
        expected = TF.resized_crop(image.permute(2, 0, 1).float(), *box, antialias=True)
        torch.testing.assert_close(view.permute(2, 0, 1).float(), expected, atol=0.501, rtol=0)
        pillow = TF.pil_to_tensor(TF.resized_crop(Image.fromarray(image.numpy()), *box)).permute(1, 2, 0)
        assert (view.int() - pillow.int()).abs().max() <= 1


def as_torchvision(
    image: torch.Tensor, transform: int, draws: TransformDraws, i: int, benchmark: Benchmark
) -> torch.Tensor:
    """Make one transform of one (S, S, C) image by torchvision's functions, one after the other."""
    aspect, turn = divmod(transform, 4)
    views, size = draws.aspects[aspect], len(image)
    height, width = WINDOWS_OF_16[aspect]
    top, left = draws.offsets_NA2[i, aspect].tolist()
    x = image.permute(2, 0, 1).float()
    x = TF.resized_crop(x, top, left, height, width, [size, size], antialias=False).round() / 255
    angle, zoom, shear = views.affine[i].tolist()
    x = TF.affine(x, angle, [0, 0], zoom, [shear, 0], interpolation=TF.InterpolationMode.BILINEAR)
    for kind in views.orders[i].tolist():
        adjust = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)[kind]
        x = adjust(x, float(views.factors[i, kind]))
    x = TF.hflip(x) if views.flips[i] else x
    x = TF.normalize(x, list(benchmark.mean), list(benchmark.std))
    for _ in range(turn):
        x = x.transpose(1, 2).flip(1)
    return x


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(crop_padding=4, jitter=0.4, flip=True),
        Augmentation(crop_padding=2, jitter=0.4, rotation_deg=10, scale=0.1, shear_deg=10),
    ],
    ids=["photos", "affine"],
)
def test_views_are_sixteen_transforms_one_after_the_other(augmentation):
    benchmark, batch = photos(augmentation), images(3)
    objective = IerGen0(backbone(), benchmark, N_CLASSES, 20, 1.0, 8, 0.9, 1.0, generator=torch_generator(0, "heads"))
    draws = draws_of(objective, 3)
    views = objective.views(batch, draws)
    assert views.shape == (48, 3, 16, 16)
    for transform in range(16):
        for i in range(3):
            expected = as_torchvision(batch[i], transform, draws, i, benchmark)
            torch.testing.assert_close(views[3 * transform + i], expected, atol=5e-5, rtol=0, check_stride=False)


def test_every_aspect_has_its_own_jitter_and_flip():
    aspects = draws_of(ier_gen0(), 20).aspects
    for a in range(4):
        for b in range(a):
            assert not torch.equal(aspects[a].factors, aspects[b].factors)
            assert not torch.equal(aspects[a].flips, aspects[b].flips)


def test_random_crop_padding_is_off_and_all_else_is_kept():
    objective = ier_gen0()
    draws = draws_of(objective, 20)
    assert all(not aspect.offsets.any() for aspect in draws.aspects)
    parameters: ViewParameters = replace(draws.aspects[0], flips=torch.ones(20, dtype=torch.bool))
    mirrored = objective.views(images(20), replace(draws, aspects=(parameters, *draws.aspects[1:])))
    plain = replace(parameters, flips=torch.zeros(20, dtype=torch.bool))
    upright = objective.views(images(20), replace(draws, aspects=(plain, *draws.aspects[1:])))
    assert torch.equal(mirrored[:20], upright[:20].flip(3))
