"""Decoding: every storage format gives the expected pixels and key, and no bytes give anything but an InputError."""

import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import as_image, encode, picture
from PIL import Image, ImageOps

from rayfs.datasets.images import MAX_PIXELS, DecodedImage, decode, key_of_pixels
from rayfs.errors import InputError


def decoded(encoded: bytes, channels: int = 3, image_size: int = 20) -> DecodedImage:
    return decode(encoded, channels=channels, image_size=image_size, where="shard, row 7")


def png_with_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be `width` x `height` grey pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


# Pixels


@pytest.mark.parametrize("file_format", ["PNG", "BMP"])
def test_lossless_files_give_back_their_pixels(file_format):
    pixels = picture(0)
    assert np.array_equal(decoded(encode(pixels, file_format)).pixels, pixels)


def test_lossless_webp_gives_back_its_pixels():
    pixels = picture(0)
    assert np.array_equal(decoded(encode(pixels, "WEBP", lossless=True)).pixels, pixels)


def test_jpeg_gives_what_pillow_decodes():
    encoded = encode(picture(0), "JPEG", quality=80)
    with Image.open(io.BytesIO(encoded)) as image:
        assert np.array_equal(decoded(encoded).pixels, np.asarray(image))


def test_result_is_one_square_uint8_array_of_the_asked_channels():
    for channels in (1, 3):
        pixels = decoded(encode(picture(0, 30, 50)), channels, 20).pixels
        assert (pixels.shape, pixels.dtype) == ((20, 20, channels), np.uint8)


def test_grey_images_are_repeated_over_three_channels():
    grey = picture(0, channels=1)
    assert np.array_equal(decoded(encode(grey), 3).pixels, np.repeat(grey, 3, axis=2))


def test_grey_of_a_colour_is_the_luma_of_itu_r_601():
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[:, :, 0], pixels[:, :, 1], pixels[:, :, 2] = 100, 50, 200
    assert decoded(encode(pixels), 1).pixels[0, 0, 0] == round(0.299 * 100 + 0.587 * 50 + 0.114 * 200)


def test_alpha_is_dropped():
    pixels = picture(0, channels=4)
    assert np.array_equal(decoded(encode(pixels)).pixels, pixels[:, :, :3])


def test_palettes_are_looked_up_also_where_the_palette_has_transparency():
    palette = as_image(picture(0)).convert("P", palette=Image.Palette.ADAPTIVE)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(decoded(encode(palette)).pixels, expected)
    assert np.array_equal(decoded(encode(palette, transparency=bytes(range(200)))).pixels, expected)


def test_sixteen_bit_grey_is_scaled_to_eight_not_clipped():
    values = np.array([0, 128, 129, 257, 32768, 65535], np.uint16)
    image = Image.fromarray(np.resize(values, (20, 20)))
    expected = np.resize([0, 0, 1, 1, 128, 255], (20, 20))  # value / 257, rounded
    assert np.array_equal(decoded(encode(image), 1).pixels[:, :, 0], expected)
    assert np.array_equal(decoded(encode(image), 3).pixels, np.repeat(expected[:, :, None], 3, axis=2))


def test_one_bit_images_become_black_and_white():
    bits = Image.fromarray(picture(0, channels=1)[:, :, 0] > 127)
    assert np.array_equal(decoded(encode(bits), 1).pixels[:, :, 0], np.where(np.asarray(bits), 255, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = as_image(picture(0))
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(decoded(encode(as_image(picture(0)), exif=exif)).pixels, expected)
    assert np.array_equal(expected, picture(0)) == (orientation == 1)


@pytest.mark.parametrize("value", [0, 9, 255])
def test_unknown_orientations_leave_the_picture_as_it_is(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert np.array_equal(decoded(encode(picture(0), exif=exif)).pixels, picture(0))


def test_damaged_exif_data_do_not_cost_the_picture():
    exif = Image.Exif()
    exif[0x010E] = "a description"
    whole = encode(picture(0), "JPEG", exif=exif)
    header = whole.index(b"Exif\0\0") + 6
    for position in range(header, header + 40):
        for value in (0, 1, 127, 255):
            damaged = whole[:position] + bytes([value]) + whole[position + 1 :]
            assert np.array_equal(decoded(damaged).pixels, decoded(whole).pixels)


# Fit to size


def test_a_wide_image_at_size_loses_its_sides_only():
    pixels = picture(0, 20, 27)
    assert np.array_equal(decoded(encode(pixels)).pixels, pixels[:, 3:23])  # (27 - 20) // 2 = 3 columns on the left


def test_a_tall_image_at_size_loses_top_and_bottom_only():
    pixels = picture(0, 26, 20)
    assert np.array_equal(decoded(encode(pixels)).pixels, pixels[3:23])


def test_halving_weighs_neighbours_by_the_triangle_of_pillow():
    """The filter's triangle is 4 source pixels wide: weights 1/8, 3/8, 3/8, 1/8, cut off and rescaled at the edge."""
    ramp = np.repeat(np.array([[0, 80, 160, 240]], np.uint8), 4, axis=0)[:, :, None]
    left = (3 * 0 + 3 * 80 + 1 * 160) / 7
    right = (1 * 80 + 3 * 160 + 3 * 240) / 7
    result = decoded(encode(ramp), 1, 2).pixels[:, :, 0]
    assert np.array_equal(result, [[round(left), round(right)]] * 2)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60))
def test_fit_equals_scaling_the_whole_image_and_then_cropping_it(width, height, size):
    pixels = picture(width, height, width)
    scale = size / min(width, height)
    scaled = as_image(pixels).resize(
        (max(size, round(width * scale)), max(size, round(height * scale))), Image.Resampling.BILINEAR
    )
    left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
    naive = np.asarray(scaled.crop((left, top, left + size, top + size)))
    difference = decoded(encode(pixels), 3, size).pixels.astype(int) - naive
    assert np.abs(difference).max() <= 1  # Pillow rounds between its two passes, and chooses which comes first


def test_a_line_of_a_million_pixels_is_not_scaled_up_before_it_is_cropped():
    line = Image.fromarray(np.full((1, 1_000_000), 77, np.uint8))
    assert (decoded(encode(line), 1, 512).pixels == 77).all()  # whole, it would be 512 x 512,000,000


# Content keys


def test_key_of_a_lossless_image_is_that_of_its_pixels():
    pixels = picture(0)
    keys = {decoded(encode(pixels, compress_level=level)).key for level in (0, 1, 9)}
    keys |= {decoded(encode(pixels, "BMP")).key, key_of_pixels(pixels)}
    assert len(keys) == 1
    assert len(keys.pop()) == 16


def test_key_is_of_the_pixels_before_they_are_scaled():
    pixels = picture(0)
    assert decoded(encode(pixels), 3, 8).key == decoded(encode(pixels), 3, 32).key == key_of_pixels(pixels)
    assert decoded(encode(pixels), 1).key == key_of_pixels(decoded(encode(pixels), 1).pixels)


def test_key_of_a_lossy_image_is_that_of_its_file():
    encoded = encode(picture(0), "JPEG")
    assert decoded(encoded).key == hashlib.blake2b(b"bytes" + encoded, digest_size=16).digest()
    assert decoded(encoded).key != decoded(encode(picture(0), "JPEG", quality=60)).key


def test_key_tells_one_pixel_and_the_shape():
    pixels = picture(0)
    changed = pixels.copy()
    changed[3, 4, 1] ^= 1
    reshaped = pixels.reshape(10, 40, 3)
    assert len({key_of_pixels(x) for x in (pixels, changed, reshaped, pixels[:, :, :1])}) == 4


def test_key_does_not_depend_on_memory_layout():
    pixels = picture(0)
    assert key_of_pixels(np.asfortranarray(pixels)) == key_of_pixels(pixels)


def test_keys_are_the_published_ones():
    """A change here changes every fingerprint, and with it every episode."""
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert key_of_pixels(pixels) == hashlib.blake2b(b"pixels(2, 2, 3)" + bytes(range(12)), digest_size=16).digest()


# Errors


def test_empty_image_is_refused_with_its_place():
    with pytest.raises(InputError, match=r"^shard, row 7: the image is empty \(0 bytes\); replace or remove it$"):
        decoded(b"")


@pytest.mark.parametrize("encoded", [b"\0", b"hello, I am no image", b"GIF89a" + b"\0" * 50, b"%PDF-1.7", b"II*\0" * 9])
def test_what_is_no_image_of_a_known_format_is_refused(encoded):
    expected = rf"^shard, row 7: cannot decode the image \({len(encoded)} bytes.*PNG, JPEG, WEBP or BMP file.*replace"
    with pytest.raises(InputError, match=expected):
        decoded(encoded)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP"])
def test_truncated_images_are_refused(file_format):
    encoded = encode(picture(0), file_format)
    for kept in (10, len(encoded) // 2, len(encoded) * 9 // 10):
        with pytest.raises(InputError, match=r"^shard, row 7: cannot decode the image"):
            decoded(encoded[:kept])


@pytest.mark.parametrize("side", [7_072, 12_000, 30_000, 2_000_000])
def test_a_header_that_claims_too_many_pixels_is_refused_before_decoding(side):
    with pytest.raises(InputError, match=rf"^shard, row 7: .* more than the limit of {MAX_PIXELS:,} pixels; scale"):
        decoded(png_with_header(side, side))


def test_a_header_that_claims_pixels_which_are_not_there_is_refused():
    with pytest.raises(InputError, match="cannot decode"):
        decoded(png_with_header(500, 500))


CORRUPTIBLE = [
    encode(picture(0)),
    encode(picture(0), "JPEG"),
    encode(picture(0), "JPEG", progressive=True),
    encode(picture(0), "BMP"),
    encode(picture(0), "WEBP"),
    encode(as_image(picture(0)).convert("P"), transparency=bytes(range(200))),
]
_exif = Image.Exif()
_exif[0x0112], _exif[0x010E] = 6, "a description"
CORRUPTIBLE += [encode(picture(0), file_format, exif=_exif) for file_format in ("PNG", "JPEG", "WEBP")]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.sampled_from(CORRUPTIBLE),
    st.lists(st.tuples(st.one_of(st.integers(0, 160), st.integers(0, 5_000)), st.integers(0, 255)), max_size=5),
    st.one_of(st.none(), st.integers(0, 5_000)),
)
def test_corrupted_files_decode_or_raise_an_input_error_and_nothing_else(encoded, changes, end):
    corrupted = bytearray(encoded)
    for position, value in changes:
        corrupted[position % len(corrupted)] = value
    try:
        result = decoded(bytes(corrupted[:end]))
    except InputError as error:
        assert str(error).startswith("shard, row 7: ")
    else:
        assert result.pixels.shape == (20, 20, 3)
