"""One encoded image in, one square uint8 array and its content key out. The only place that decodes images."""

import hashlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from rayfs.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
"""Formats Pillow may try: a closed list, so that a stray file cannot reach an exotic decoder."""

LOSSLESS = ("PNG", "BMP")

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

MAX_PIXELS = 50_000_000
"""Refuse larger images before they are decoded (a decompression bomb would fill the memory)."""

MAX_BYTES = 500_000_000
"""Refuse larger files before they are read: more than `MAX_PIXELS` need in any format."""

DECODE_RULE = "short-side-bilinear-centre-crop-1"
"""Names what `decode` does to pixels; part of every table's fingerprint, changed whenever the rule changes."""


KEY_BYTES = 16
"""Of the hash that identifies an image's content."""


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """A decoded image: `pixels` (S, S, C) uint8, and `key`, `KEY_BYTES` that identify its content."""

    pixels: np.ndarray
    key: bytes


def decode(encoded: bytes, *, channels: int, image_size: int, where: str) -> DecodedImage:
    """Decode one image, convert it to `channels` (1 grey, 3 RGB) and fit it to `image_size` pixels square.

    The shorter side is scaled to `image_size` (Pillow's area-aware bilinear filter), then the centre is cropped. The
    content key of a lossless image is a hash of its pixels before scaling, so that the same picture has the same
    key in Parquet, in a folder or in a raw array; of a lossy one it is a hash of the file, because decoders differ.
    The orientation of the EXIF data is applied; EXIF data that cannot be read are ignored, as the pixels are whole.

    Raises:
        InputError: the bytes are no complete and undamaged image of a known format, hold several, or are larger than
            `MAX_PIXELS` or `MAX_BYTES`; names `where`.
    """
    refuse_too_many_bytes(len(encoded), where)
    if not encoded:
        raise InputError(f"{where}: the image is empty (0 bytes); replace or remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd palettes still decode; bombs: our limit is lower
            image: Image.Image = Image.open(io.BytesIO(encoded), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(where, f"{image.width} x {image.height} pixels")
            _refuse_frames(image, where)
            if image.format == "PNG":  # Pillow decodes pixels without their checksums: a flipped bit is another picture
                Image.open(io.BytesIO(encoded), formats=("PNG",)).verify()
            lossless = image.format in LOSSLESS
            image = _to_channels(_upright(image), channels)
    except InputError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit strikes before it tells the size
        raise _too_large(where, str(error).split(" exceeds")[0]) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        unknown = isinstance(error, UnidentifiedImageError)  # its text is an address in memory
        reason = "of no known format" if unknown else " ".join(str(error).split())
        raise InputError(
            f"{where}: cannot decode the image ({len(encoded)} bytes; {reason}); expected a whole "
            f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]} file: replace or remove it"
        ) from None
    native = np.asarray(image).reshape(image.height, image.width, channels)
    key = key_of_pixels(native) if lossless else key_of_file(encoded)
    return DecodedImage(pixels=_fit(image, native, image_size), key=key)


def key_of_pixels(native: np.ndarray) -> bytes:
    """Return the content key of a raw (H, W, C) uint8 image: the key `decode` gives the same picture stored as PNG."""
    header = f"pixels{native.shape}".encode()
    return hashlib.blake2b(header + np.ascontiguousarray(native).tobytes(), digest_size=KEY_BYTES).digest()


def key_of_file(encoded: bytes) -> bytes:
    """Return the content key of a lossy image: a hash of the file, because decoders differ in the last bits."""
    return hashlib.blake2b(b"bytes" + encoded, digest_size=KEY_BYTES).digest()


def _too_large(where: str, size: str) -> InputError:
    return InputError(f"{where}: {size} are more than the limit of {MAX_PIXELS:,} pixels; scale the image down first")


def refuse_too_many_bytes(n_bytes: int, where: str) -> None:
    """Refuse an encoded image by its size. Raises InputError."""
    if n_bytes > MAX_BYTES:
        raise InputError(
            f"{where}: {n_bytes:,} bytes are more than the limit of {MAX_BYTES:,} for one image; replace it"
        )


def _refuse_frames(image: Image.Image, where: str) -> None:
    """Refuse animations: which frame is the picture? Photographs with a preview inside (MPO) have one picture."""
    n_frames = getattr(image, "n_frames", 1)
    if n_frames > 1 and image.format != "MPO":
        raise InputError(
            f"{where}: the {image.format} file holds {n_frames} frames, expected 1; save one of them alone"
        )


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation, as in Pillow's `exif_transpose`, which also rewrites the tags and may fail."""


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # reads whatever comes after the pixels, so that its errors are not taken for those of the EXIF data
    try:
        method = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # on damaged tags Pillow raises whatever its parser stumbles over
        method = None
    return image if method is None else image.transpose(method)


def _to_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):  # 16- or 32-bit grey: Pillow would clip, not scale
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((values / 257.0).clip(0, 255).round().astype(np.uint8))
    return image.convert("L" if channels == 1 else "RGB")


def _fit(image: Image.Image, native: np.ndarray, size: int) -> np.ndarray:
    """Scale the shorter side to `size` and crop the centre, in one step: only what is kept is ever computed.

    Scaled whole, an image of 1 x 1,000,000 pixels would become one of 84 x 84,000,000 before its centre is cut out.
    """
    if image.size == (size, size):
        return native
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    x_scale, y_scale = image.width / width, image.height / height
    box = (left * x_scale, top * y_scale, (left + size) * x_scale, (top + size) * y_scale)
    scaled = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(scaled).reshape(size, size, native.shape[2])
