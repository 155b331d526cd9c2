"""One encoded image in, one square uint8 array and its content key out. The only place that decodes images."""

import hashlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rayfs.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
"""Formats Pillow may try: a closed list, so that a stray file cannot reach an exotic decoder."""

LOSSLESS = ("PNG", "BMP")

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

MAX_PIXELS = 50_000_000
"""Refuse larger images before they are decoded (a decompression bomb would fill the memory)."""

DECODE_RULE = "short-side-bilinear-centre-crop-1"
"""Names what `decode` does to pixels; part of every table's fingerprint, changed whenever the rule changes."""


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """A decoded image: `pixels` (S, S, C) uint8, and `key`, 16 bytes that identify its content."""

    pixels: np.ndarray
    key: bytes


def decode(encoded: bytes, *, channels: int, image_size: int, where: str) -> DecodedImage:
    """Decode one image, convert it to `channels` (1 grey, 3 RGB) and fit it to `image_size` pixels square.

    The shorter side is scaled to `image_size` (Pillow's area-aware bilinear filter), then the centre is cropped. The
    content key of a lossless image is a hash of its pixels before scaling, so that the same picture has the same
    key in Parquet, in a folder or in a raw array; of a lossy one it is a hash of the file, because decoders differ.

    Raises:
        InputError: the bytes are no complete image of a known format, or larger than `MAX_PIXELS`; names `where`.
    """
    if not encoded:
        raise InputError(f"{where}: the image is empty (0 bytes); replace or remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own, lower, limit comes next
            image: Image.Image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise InputError(
                f"{where}: {image.width} x {image.height} pixels are more than the limit of {MAX_PIXELS:,}; "
                "scale the image down first"
            )
        lossless = image.format in LOSSLESS
        image = _to_channels(ImageOps.exif_transpose(image), channels)
    except InputError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{where}: cannot decode the image ({len(encoded)} bytes; {reason}); expected a whole "
            f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]} file: replace or remove it"
        ) from None
    native = np.asarray(image).reshape(image.height, image.width, channels)
    return DecodedImage(pixels=_fit(image, native, image_size), key=_key(native if lossless else encoded))


def key_of_pixels(native: np.ndarray) -> bytes:
    """Return the content key of a raw (H, W, C) uint8 image: the key `decode` gives the same picture stored as PNG."""
    return _key(native)


def _to_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):  # 16- or 32-bit grey: Pillow would clip, not scale
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((values / 257.0).clip(0, 255).round().astype(np.uint8))
    return image.convert("L" if channels == 1 else "RGB")


def _fit(image: Image.Image, native: np.ndarray, size: int) -> np.ndarray:
    if image.size == (size, size):
        return native
    scale = size / min(image.size)
    scaled = image.resize(
        (max(size, round(image.width * scale)), max(size, round(image.height * scale))), Image.Resampling.BILINEAR
    )
    left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
    return np.asarray(scaled.crop((left, top, left + size, top + size))).reshape(size, size, native.shape[2])


def _key(content: np.ndarray | bytes) -> bytes:
    if isinstance(content, bytes):
        return hashlib.blake2b(b"bytes" + content, digest_size=16).digest()
    header = f"pixels{content.shape}".encode()
    return hashlib.blake2b(header + np.ascontiguousarray(content).tobytes(), digest_size=16).digest()
