"""Strips of images in one picture."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from rayfs.reports.document import Picture
from rayfs.reports.render import render_block
from rayfs.reports.sprites import MAX_SIDE, data_uri, strip


def decoded(uri: str) -> tuple[str, np.ndarray]:
    kind, data = re.fullmatch(r"data:image/(\w+);base64,(.*)", uri).groups()  # type: ignore[union-attr]
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_stand_side_by_side_in_one_png_pixel_for_pixel(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 10, channels), dtype=np.uint8)
    kind, picture = decoded(data_uri(images))
    assert kind == "png" and picture.shape[:2] == (8, 30)
    for i, image in enumerate(images):
        assert (picture[:, 10 * i : 10 * (i + 1)].reshape(image.shape) == image).all()


def test_large_images_become_small_jpegs() -> None:
    images = np.full((2, 224, 224, 3), 120, dtype=np.uint8)
    kind, picture = decoded(data_uri(images))
    assert kind == "jpeg" and picture.shape == (MAX_SIDE, 2 * MAX_SIDE, 3)
    assert strip(images, [Picture(description="photograph")] * 2).smooth


def test_a_strip_holds_one_picture_and_says_what_each_image_is() -> None:
    images = np.zeros((2, 8, 8, 1), dtype=np.uint8)
    pictures = [Picture(description="a <b>", state="right"), Picture(description="c", state="wrong", answers=["3"])]
    html = render_block(strip(images, pictures))
    assert html.count("data:image/png") == 1 and html.count('role="img"') == 2
    assert 'aria-label="a &lt;b&gt;"' in html and '<span class="image wrong">' in html and "--n:2" in html
    assert 'class="strip"' in html, "pixels of small images are squares"
