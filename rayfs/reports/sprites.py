"""Strips of images in one data URI each: what a page shows of an image table, enlarged but not blurred."""

import base64
import io
from collections.abc import Sequence

import numpy as np

from rayfs.reports.table_exports import escape_html

PIXELATED_BELOW = 48
"""Images smaller than this are enlarged as they are, in squares; larger ones are kept as JPEG, at most MAX_SIDE."""

MAX_SIDE = 96
JPEG_QUALITY = 82


def strip(images: np.ndarray, captions: Sequence[str], descriptions: Sequence[str], classes: Sequence[str] = ()) -> str:
    """Return the HTML of `images` (n, H, W, C) uint8 beside one another, all from one picture.

    Arguments:
        captions: HTML below each image; may be empty.
        descriptions: what a screen reader says of each image, plain text.
        classes: style classes of each image; default none.
    """
    n = len(images)
    smooth = " smooth" if images.shape[1] >= PIXELATED_BELOW else ""
    cells = "".join(
        f'<span class="image {style}"><i role="img" style="--i:{i}" title="{escape_html(description)}" '
        f'aria-label="{escape_html(description)}"></i>{caption}</span>'
        for i, (caption, description, style) in enumerate(zip(captions, descriptions, classes or [""] * n, strict=True))
    )
    return f'<div class="strip{smooth}" style="--n:{n};--s:url({data_uri(images)})">{cells}</div>'


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
