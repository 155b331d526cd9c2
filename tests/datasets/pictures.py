"""Small pictures made by hand, and the files they are stored in."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(seed: int, height: int = 20, width: int = 20, channels: int = 3) -> np.ndarray:
    """Return noise (height, width, channels) uint8 that depends on `seed` alone."""
    shape = (height, width, channels)
    return np.random.Generator(np.random.Philox(seed)).integers(0, 256, shape, dtype=np.uint8)


def as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def encode(image: Image.Image | np.ndarray, file_format: str = "PNG", **options) -> bytes:
    """Return `image` as the bytes of a file."""
    buffer = io.BytesIO()
    (as_image(image) if isinstance(image, np.ndarray) else image).save(buffer, file_format, **options)
    return buffer.getvalue()


def write_shard(
    path: Path,
    rows: Sequence[tuple[bytes | None, int | None]],
    names: Sequence[str],
    *,
    label: str = "label",
    label_type: pa.DataType | None = None,
    metadata: bool = True,
) -> Path:
    """Write (encoded image, label) rows as a Parquet file in the Hugging Face layout."""
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": data, "path": f"{i}.png"} for i, (data, _) in enumerate(rows)], image_type)
    labels = pa.array([value for _, value in rows], label_type or pa.int64())
    table = pa.table({"image": images, label: labels})
    if metadata:
        features = {"image": {"_type": "Image"}, label: {"_type": "ClassLabel", "names": list(names)}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def write_folder(root: Path, images: Sequence[tuple[bytes, str]], ending: str = "png") -> Path:
    """Write (encoded image, class name) pairs as one file each in one folder a class."""
    for i, (data, name) in enumerate(images):
        path = root / name / f"{i}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root
