"""Images that are broken, enormous or unusual: decoded as defined here, or refused with one message."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from corruption import FUZZ, corruptions
from hypothesis import given
from hypothesis import strategies as st
from pictures import as_image, encode, picture
from PIL import Image

from rayfs.datasets.images import MAX_BYTES, decode
from rayfs.datasets.sources import read_file
from rayfs.errors import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
FRAMES = [as_image(picture(seed, 8, 8)) for seed in range(3)]


def decoded(encoded: bytes, channels: int = 3, image_size: int = 8) -> np.ndarray:
    return decode(encoded, channels=channels, image_size=image_size, where="x.png").pixels


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, lines: bytes, depth: int = 8, colour: int = 0, more: bytes = b"") -> bytes:
    """Write a PNG by hand: `lines` with a filter byte each, `more` chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    """Return a small JPEG whose header claims another size."""
    whole = encode(picture(0, 8, 8), "JPEG")
    start = whole.index(b"\xff\xc0") + 5
    return whole[:start] + struct.pack(">HH", height, width) + whole[start + 4 :]


def with_bad_pixels(encoded: bytes) -> bytes:
    """Flip one bit of the pixels of a PNG."""
    place = encoded.index(b"IDAT") + 12
    return encoded[:place] + bytes([encoded[place] ^ 1]) + encoded[place + 1 :]


TOO_LARGE = "are more than the limit of 50,000,000 pixels; scale the image down first"
WHOLE = "expected a whole PNG, JPEG, WEBP or BMP file: replace or remove it"
TINY = png(8, 8, b"\0" * 72)

REFUSED = {
    "no bytes": (b"", "the image is empty (0 bytes); replace or remove it"),
    "one byte": (b"\0", f"cannot decode the image (1 bytes; of no known format); {WHOLE}"),
    "signature alone": (SIGNATURE, f"cannot decode the image (8 bytes; of no known format); {WHOLE}"),
    "text": (b"dear reader", f"cannot decode the image (11 bytes; of no known format); {WHOLE}"),
    "web page": (b"<!DOCTYPE html><p>404", f"cannot decode the image (21 bytes; of no known format); {WHOLE}"),
    "SVG": (b"<svg xmlns='...'/>", f"cannot decode the image (18 bytes; of no known format); {WHOLE}"),
    "zip": (b"PK\3\4" + b"\0" * 26, f"cannot decode the image (30 bytes; of no known format); {WHOLE}"),
    "pickle": (b"\x80\x04cos\nsystem\n.", f"cannot decode the image (14 bytes; of no known format); {WHOLE}"),
    "GIF": (encode(FRAMES[0], "GIF"), f"cannot decode the image (... bytes; of no known format); {WHOLE}"),
    "TIFF": (encode(FRAMES[0], "TIFF"), f"cannot decode the image (... bytes; of no known format); {WHOLE}"),
    "ICO": (encode(FRAMES[0], "ICO"), f"cannot decode the image (... bytes; of no known format); {WHOLE}"),
    "PNG of 4 billion squared": (png(2**31 - 1, 2**31 - 1, b""), f"... {TOO_LARGE}"),
    "PNG just too large": (png(7_072, 7_072, b""), f"7072 x 7072 pixels {TOO_LARGE}"),
    "PNG too wide": (png(50_000_001, 1, b""), f"50000001 x 1 pixels {TOO_LARGE}"),
    "JPEG too large": (jpeg_of_size(65_000, 1_000), f"65000 x 1000 pixels {TOO_LARGE}"),
    "JPEG far too large": (jpeg_of_size(65_000, 65_000), f"... {TOO_LARGE}"),
    "PNG bomb of 250 MB": (png(16_000, 16_000, bytes(16_001) * 16_000), f"... {TOO_LARGE}"),
    "PNG without width": (png(0, 8, b"\0" * 8), f"cannot decode the image (...; ...); {WHOLE}"),
    "JPEG without height": (jpeg_of_size(8, 0), f"cannot decode the image (...; ...); {WHOLE}"),
    "PNG with too few pixels": (png(8, 8, b"\0" * 20), f"cannot decode the image (...; ...); {WHOLE}"),
    "PNG cut behind its header": (TINY[:33], f"cannot decode the image (33 bytes; ...); {WHOLE}"),
    "PNG cut in its pixels": (TINY[:-20], f"cannot decode the image (...; Truncated File Read); {WHOLE}"),
    "PNG without end": (TINY[:-12], f"cannot decode the image (...; truncated PNG file); {WHOLE}"),
    "PNG with a bad pixel": (
        with_bad_pixels(encode(picture(0, 8, 8))),
        f"cannot decode the image (...; broken PNG file (bad header checksum in b'IDAT')); {WHOLE}",
    ),
    "PNG with a text bomb": (
        png(8, 8, b"\0" * 72, more=chunk(b"zTXt", b"a\0\0" + zlib.compress(b" " * 2_000_000))),
        f"cannot decode the image (...; ...); {WHOLE}",
    ),
    "PNG with a chunk of 2 GB": (
        SIGNATURE + struct.pack(">I4s", 2**31 - 1, b"IHDR") + b"\0" * 40,
        f"cannot decode the image (...; ...); {WHOLE}",
    ),
    "animated PNG": (
        encode(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
        "the PNG file holds 3 frames, expected 1; save one of them alone",
    ),
    "animated WebP": (
        encode(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]),
        "the WEBP file holds 3 frames, expected 1; save one of them alone",
    ),
    "animated GIF": (
        encode(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
        f"cannot decode the image (... bytes; of no known format); {WHOLE}",
    ),
    **{
        f"{file_format} cut at {share:.0%}": (
            whole[: int(len(whole) * share)],
            f"cannot decode the image (...; ...); {WHOLE}",
        )
        for file_format, whole in ((name, encode(picture(0, 40, 40), name)) for name in ("JPEG", "WEBP", "BMP"))
        for share in (0.05, 0.5, 0.95)
    },
}
"""Name -> (bytes, the message behind the place); `...` stands for Pillow's words and for sizes."""


def test_a_flipped_bit_of_a_png_is_refused_or_changes_no_pixel() -> None:
    whole = encode(picture(3, 6, 6), "PNG")
    expected, n_refused = decode(whole, channels=3, image_size=6, where="x.png"), 0
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = decode(bytes(flipped), channels=3, image_size=6, where="x.png")
        except InputError:
            n_refused += 1
        else:
            assert np.array_equal(found.pixels, expected.pixels) and found.key == expected.key, f"bit {bit}"
    n_bits_of_the_end = 8 * 8  # length and checksum of the last chunk, which holds nothing
    assert n_refused == 8 * len(whole) - n_bits_of_the_end


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_or_enormous_image_is_refused_with_one_message(name: str) -> None:
    encoded, message = REFUSED[name]
    pattern = re.escape(f"x.png: {message}").replace(r"\.\.\.", ".+")
    with pytest.raises(InputError) as refusal:
        decoded(encoded)
    assert re.fullmatch(pattern, str(refusal.value)), str(refusal.value)


def test_a_file_of_too_many_bytes_is_refused_before_it_is_read(tmp_path, monkeypatch) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # takes no room on the disk
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda path: pytest.fail("it was read"))
    with pytest.raises(
        InputError,
        match=rf"^{path}: 500,000,001 bytes are more than the limit of 500,000,000 for one image; replace it$",
    ):
        read_file(str(path), "ant")


def test_bytes_of_a_parquet_row_have_the_same_limit(monkeypatch) -> None:
    monkeypatch.setattr("rayfs.datasets.images.MAX_BYTES", 100)
    with pytest.raises(
        InputError, match=r"^x.png: 101 bytes are more than the limit of 100 for one image; replace it$"
    ):
        decoded(b"\0" * 101)


def test_enormous_headers_are_refused_without_the_memory_they_ask_for(monkeypatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoding began"))
    with pytest.raises(InputError, match="more than the limit of 50,000,000 pixels"):
        decoded(png(9_000, 9_000, b""))


# Unusual images that have a defined result

BLOCKS = np.repeat(np.repeat(picture(3, 2, 2), 4, axis=0), 4, axis=1)
"""Four blocks of one colour each, which JPEG keeps nearly."""


def constant(pixel: bytes, depth: int, colour: int, more: bytes = b"") -> bytes:
    """Return an 8 x 8 PNG of one pixel value."""
    return png(8, 8, (b"\0" + pixel * 8) * 8, depth, colour, more)


@pytest.mark.parametrize(
    ("encoded", "colour", "grey"),
    [
        pytest.param(constant(b"\x80\xff", 16, 0), [128] * 3, 128, id="16-bit grey is divided by 257 and rounded"),
        pytest.param(constant(b"\x80\xff" * 3, 16, 2), [128] * 3, 128, id="16-bit colour keeps the high bytes"),
        pytest.param(constant(b"\x10\x20\x30\x00", 8, 6), [16, 32, 48], 29, id="alpha is dropped, transparent or not"),
        pytest.param(constant(b"\x40\x00", 8, 4), [64] * 3, 64, id="so is the alpha of grey"),
        pytest.param(
            constant(b"\x01", 8, 3, chunk(b"PLTE", bytes([0, 0, 0, 9, 90, 200]))), [9, 90, 200], 78,
            id="a palette is looked up",
        ),
        pytest.param(
            constant(b"\x01", 8, 3, chunk(b"PLTE", bytes([0, 0, 0, 9, 90, 200])) + chunk(b"tRNS", b"\0\0")),
            [9, 90, 200], 78, id="also where its colours are transparent",
        ),
        pytest.param(png(8, 8, b"\0\xff" * 8, 1, 0), [255] * 3, 255, id="one bit is black or white"),
        pytest.param(
            encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100), [255, 0, 0], 76,
            id="CMYK is converted as (1 - C)(1 - K)",
        ),
    ],
)  # fmt: skip
def test_unusual_pixels_become_eight_bit_colour_or_grey(encoded: bytes, colour: list[int], grey: int) -> None:
    assert np.array_equal(decoded(encoded)[3, 3], colour)
    assert decoded(encoded, channels=1)[3, 3, 0] == grey


def test_a_photograph_with_a_preview_inside_is_its_first_picture() -> None:
    whole = encode(as_image(BLOCKS), "MPO", save_all=True, append_images=FRAMES[1:2], quality=95)
    assert Image.open(io.BytesIO(whole)).format == "MPO"
    assert np.abs(decoded(whole).astype(int) - BLOCKS).mean() < 20
    assert np.abs(decoded(whole).astype(int) - np.asarray(FRAMES[1])).mean() > 40


def test_bytes_behind_the_end_of_a_png_do_no_harm() -> None:
    assert np.array_equal(decoded(encode(picture(0, 8, 8)) + b"trailing\0"), picture(0, 8, 8))


# Damage

FLAT = picture(0, 40, 40) // 64 * 64
PNG, JPEG = encode(FLAT), encode(FLAT, "JPEG")


@FUZZ
@given(corruptions(PNG))
def test_a_damaged_png_is_exactly_the_picture_or_refused(encoded: bytes) -> None:
    try:
        assert np.array_equal(decoded(encoded, image_size=40), FLAT)
    except InputError as error:
        assert str(error).startswith("x.png: ")


@FUZZ
@given(corruptions(JPEG), st.sampled_from([1, 3]))
def test_a_damaged_jpeg_is_what_pillow_sees_in_it_or_refused(encoded: bytes, channels: int) -> None:
    """JPEG has no checksum: some damage is another picture. What is accepted is whole, and the same every time."""
    try:
        pixels = decoded(encoded, channels, 40)
    except InputError as error:
        assert str(error).startswith("x.png: ")
    else:
        assert (pixels.shape, pixels.dtype) == ((40, 40, channels), np.uint8)
        assert np.array_equal(pixels, decoded(encoded, channels, 40))
