"""Images as a page holds them: many in one picture, enlarged but not blurred."""

import base64
import io
from collections.abc import Sequence

import numpy as np

from rayfs.reports.document import Picture, Strip

PIXELATED_BELOW = 48
"""Images smaller than this are enlarged as they are, in squares; larger ones are kept as JPEG, at most MAX_SIDE."""

MAX_SIDE = 96
JPEG_QUALITY = 82


def strip(images: np.ndarray, pictures: Sequence[Picture], *, caption: str = "", large: bool = False) -> Strip:
    """Return `images` (n, H, W, C) uint8 beside one another, with what is said of each; see `Strip`."""
    assert len(images) == len(pictures), f"{len(images)} images, {len(pictures)} descriptions"
    smooth = images.shape[1] >= PIXELATED_BELOW
    return Strip(source=data_uri(images), smooth=smooth, pictures=pictures, caption=caption, large=large)


def data_uri(images: np.ndarray) -> str:
    """Return one picture of `images` (n, H, W, C) side by side: PNG for small ones, JPEG for large ones."""
    from PIL import Image

    n, height, width, channels = images.shape
    pixels = np.ascontiguousarray(images.transpose(1, 0, 2, 3)).reshape(height, n * width, channels)
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    buffer = io.BytesIO()
    if height < PIXELATED_BELOW:
        picture.save(buffer, "PNG", optimize=True)
    else:
        side = min(height, MAX_SIDE)
        if side < height:
            picture = picture.resize((side * n, side), Image.Resampling.BOX)
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    kind = "png" if height < PIXELATED_BELOW else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
