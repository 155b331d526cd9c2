"""Random views of a batch of images, every image with its own parameters, without a per-image loop.

Shapes: N images, H and W pixels, C channels. Each parameter is drawn from the law of torchvision's per-image
transforms (RandomCrop, RandomResizedCrop, ColorJitter in random order, RandomHorizontalFlip, RandomAffine), as a tensor
over the batch, so any path that has the parameters replays the same views. Deviation: values stay in float, where
Pillow rounds down to uint8 after each step (a mean shift of about 1.3/255).
"""

import functools
import math
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F

from rayfs.errors import InputError

GREY_WEIGHTS = (0.2989, 0.587, 0.114)
"""Luma weights of ITU-R 601, as in torchvision."""

_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
CROP_TRIES = 10
MAX_ASPECT = 4 / 3
"""Of a resized crop: torchvision's constants."""

_CONTRAST, _SATURATION = 1, 2  # 0: brightness


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Which random views a benchmark's images allow; a zero turns a part off."""

    crop_padding: int = 0
    """Pixels added on each side before a random crop back to size (4 at 32 px, 8 at 84 px: released code)."""
    crop_area: float = 1.0
    """Least share of the image's area that a random crop keeps, of aspect 3/4 to 4/3, scaled back to size (0.08 in
    ImageNet training: torchvision's RandomResizedCrop); 1 turns it off."""
    jitter: float = 0.0
    """Brightness, contrast and saturation factors are uniform in [1 - jitter, 1 + jitter] (0.4: released code)."""
    flip: bool = False
    """Mirror left-right with probability 1/2."""
    rotation_deg: float = 0.0
    """Rotation uniform in ± this many degrees."""
    scale: float = 0.0
    """Zoom factor uniform in [1 - scale, 1 + scale]."""
    shear_deg: float = 0.0
    """Horizontal shear uniform in ± this many degrees."""
    fill: int = 0
    """Value (0-255) of pixels that come from outside the image."""

    def __post_init__(self) -> None:
        if not 0 <= self.jitter <= 1 or not 0 <= self.scale < 1:
            raise InputError(
                f"jitter is {self.jitter} and scale {self.scale}; expected 0 to 1, and 0 to less than 1: factors below "
                "zero make no image"
            )
        if not 0 < self.crop_area <= 1:
            raise InputError(f"crop_area is {self.crop_area}; expected a share of the image, above 0 and up to 1")
        if self.crop_padding < 0 or not 0 <= self.fill <= 255:
            raise InputError(f"crop_padding is {self.crop_padding} and fill {self.fill}; expected >= 0 and 0 to 255")


@dataclass(frozen=True, kw_only=True)
class ViewParameters:
    """Everything random about one batch of views; tensors over the N images, on the generator's device."""

    offsets: torch.Tensor
    """(N, 2) int64, top and left corner of the crop in the padded image."""
    factors: torch.Tensor
    """(N, 3) brightness, contrast, saturation factors."""
    orders: torch.Tensor
    """(N, 3) int64, the order in which those three are applied."""
    flips: torch.Tensor
    """(N,) bool."""
    affine: torch.Tensor
    """(N, 3) rotation in degrees, zoom factor, shear in degrees."""
    boxes: torch.Tensor
    """(N, 4) left, top, width and height of the resized crop, as shares of the image's side."""

    def part(self, index: slice) -> "ViewParameters":
        """Return the parameters of some of the images."""
        return ViewParameters(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def to(self, device: torch.device) -> "ViewParameters":
        """Return the parameters on `device`."""
        return ViewParameters(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def draw_views(n: int, config: Augmentation, generator: torch.Generator) -> ViewParameters:
    """Draw the parameters of `n` views; the draws do not depend on which parts of `config` are on.

    Those of the resized crop come last, and only where it is on.
    """
    device = generator.device
    uniform = torch.rand(n, 7, generator=generator, device=device)
    order = torch.randint(len(_ORDERS), (n,), generator=generator, device=device)
    offsets = torch.randint(2 * config.crop_padding + 1, (n, 2), generator=generator, device=device)
    signed = 2 * uniform - 1
    spread = constant((config.rotation_deg, config.scale, config.shear_deg), device)
    centre = constant((0.0, 1.0, 0.0), device)
    return ViewParameters(
        offsets=offsets,
        factors=1 + config.jitter * signed[:, :3],
        orders=constant(_ORDERS, device)[order],
        flips=(uniform[:, 3] < 0.5) & config.flip,
        affine=centre + spread * signed[:, 4:],
        boxes=_draw_boxes(n, config.crop_area, generator) if config.crop_area < 1 else _whole(n, device),
    )


def apply_views(images: torch.Tensor, config: Augmentation, views: ViewParameters) -> torch.Tensor:
    """Make one view of each image.

    Arguments:
        images: (N, H, W, C) uint8 on the device of `views`.

    Returns:
        (N, C, H, W) float32 in [0, 1].
    """
    images = _crop(images, config, views.offsets)
    x = images.float().div_(255.0)
    if config.crop_area < 1:
        x = _resized_crop(x, views.boxes)
    if config.rotation_deg or config.scale or config.shear_deg:
        x = _warp(x, views.affine, config.fill / 255.0)
    if config.jitter:
        x = _jitter(x, views.factors, views.orders)
    if config.flip:
        x = torch.where(views.flips[:, None, None, None], x.flip(2), x)
    return x.permute(0, 3, 1, 2)


def plain_view(images: torch.Tensor) -> torch.Tensor:
    """Scale (N, H, W, C) uint8 images to (N, C, H, W) float32 in [0, 1], channels-last in memory; no randomness."""
    return images.float().div_(255.0).permute(0, 3, 1, 2)


def normalize(x: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Subtract `mean` and divide by `std`, one value a channel, of (N, C, H, W) images; channels-last in memory."""
    shape = (1, len(mean), 1, 1)
    x = (x - constant(mean, x.device, x.dtype).view(shape)) / constant(std, x.device, x.dtype).view(shape)
    return x.contiguous(memory_format=torch.channels_last)


@functools.lru_cache(maxsize=256)
def constant(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return (nested) `values` as a tensor on `device`; the same one again, so that no step waits for a copy to a GPU.

    Nobody may write to it.
    """
    with torch.inference_mode(False):  # else, first asked for in inference, it would be of no use in training
        return torch.tensor(values, dtype=dtype, device=device)


def _crop(images: torch.Tensor, config: Augmentation, offsets: torch.Tensor) -> torch.Tensor:
    padding = config.crop_padding
    if not padding:
        return images
    n, height, width, channels = images.shape
    padded = F.pad(images, (0, 0, padding, padding, padding, padding), value=config.fill).flatten(2)
    first = torch.arange(n, device=images.device)[:, None]
    rows = padded[first, offsets[:, :1] + torch.arange(height, device=images.device)]
    columns = channels * offsets[:, 1:] + torch.arange(channels * width, device=images.device)
    return rows.gather(2, columns[:, None].expand(-1, height, -1)).view(images.shape)


def _whole(n: int, device: torch.device) -> torch.Tensor:
    return constant((0.0, 0.0, 1.0, 1.0), device).expand(n, 4)


def _draw_boxes(n: int, least_area: float, generator: torch.Generator) -> torch.Tensor:
    """Draw (N, 4) boxes by the law of RandomResizedCrop: the first of ten shapes that fits the image, else all of it.

    Deviation: torchvision rounds the corners to whole pixels.
    """
    uniform = torch.rand(n, CROP_TRIES, 2, generator=generator, device=generator.device)
    places = torch.rand(n, 2, generator=generator, device=generator.device)
    area = least_area + (1 - least_area) * uniform[:, :, 0]
    root = torch.exp((uniform[:, :, 1] - 0.5) * math.log(MAX_ASPECT))  # √(width / height)
    sides = torch.stack([area.sqrt() * root, area.sqrt() / root], 2)
    fits = (sides <= 1).all(2)
    first = fits.float().argmax(1)  # 0 where none fits
    side = sides[torch.arange(n, device=first.device), first]
    side = torch.where(fits.any(1)[:, None], side, torch.ones_like(side))
    return torch.cat([places * (1 - side), side], 1)


def _resized_crop(x: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Cut the `boxes` out of square (N, S, S, C) images and scale them back to S x S, bilinear.

    Crops are never larger than the image, so nothing has to be smoothed. Deviation: at a box's rim the pixels outside
    it count in, where torchvision repeats the last ones inside.
    """
    corner, side = boxes[:, :2], boxes[:, 2:]
    zero = torch.zeros_like(corner[:, 0])
    shift = 2 * corner + side - 1
    rows = [torch.stack([side[:, 0], zero, shift[:, 0]], 1), torch.stack([zero, side[:, 1], shift[:, 1]], 1)]
    nchw = x.permute(0, 3, 1, 2)
    grid = F.affine_grid(torch.stack(rows, 1), list(nchw.shape), align_corners=False)
    cut = F.grid_sample(nchw, grid, padding_mode="border", align_corners=False)
    return cut.permute(0, 2, 3, 1).contiguous()


def _warp(x: torch.Tensor, affine: torch.Tensor, fill: float) -> torch.Tensor:
    """Shear, zoom and rotate square (N, S, S, C) images about their centres, bilinear; outside pixels get `fill`.

    As torchvision's affine with bilinear interpolation: the matrix takes a pixel of the view back to the image.
    Deviation: with a fill other than 0 torchvision weighs pixels at the rim twice, which draws a dark frame there.
    """
    angle, zoom, shear = torch.deg2rad(affine[:, 0]), affine[:, 1], torch.tan(torch.deg2rad(affine[:, 2]))
    cos, sin, zero = torch.cos(angle) / zoom, torch.sin(angle) / zoom, torch.zeros_like(angle)
    rows = [torch.stack([cos - shear * sin, sin + shear * cos, zero], 1), torch.stack([-sin, cos, zero], 1)]
    nchw = x.permute(0, 3, 1, 2) - fill
    grid = F.affine_grid(torch.stack(rows, 1), list(nchw.shape), align_corners=False)
    return (F.grid_sample(nchw, grid, align_corners=False) + fill).permute(0, 2, 3, 1).contiguous()


def _jitter(x: torch.Tensor, factors: torch.Tensor, orders: torch.Tensor) -> torch.Tensor:
    """Apply brightness, contrast and saturation to (N, H, W, C) images, each image in its own order.

    Each of the three is `x <- clip(a x + (1 - a) reference)` with reference 0, the mean of the grey image, and the grey
    image itself; on one-channel images saturation leaves x as it is. In memory the channels lie one after the other: on
    CPUs four times as fast as pixel after pixel, where a vector would hold three values.
    """
    x = x.permute(0, 3, 1, 2).contiguous()
    for turn in range(3):
        kind = orders[:, turn, None]
        a = factors.gather(1, kind).view(-1, 1, 1, 1)
        kind = kind.view(-1, 1, 1, 1)
        if x.shape[1] == 3:
            red, green, blue = GREY_WEIGHTS
            grey = (red * x[:, 0:1]).add_(x[:, 1:2], alpha=green).add_(x[:, 2:3], alpha=blue)
        else:
            grey = x.clone()
        mean = grey.mean((2, 3), keepdim=True)
        reference = grey.mul_((1 - a) * (kind == _SATURATION)).add_(mean * ((1 - a) * (kind == _CONTRAST)))
        x = torch.addcmul(reference, x, a).clamp_(0, 1)
    return x.permute(0, 2, 3, 1)
