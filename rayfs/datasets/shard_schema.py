"""What a Parquet shard of images must look like, checked before any image is read."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayfs.datasets.folder_files import refuse_special
from rayfs.errors import InputError
from rayfs.json_text import parse_json

UNLABELLED = -1
"""Hugging Face's label of an image that has none; such rows and rows with a null are left out."""


def read_shard_schema(path: Path, label_column: str) -> tuple[str, list[str]]:
    """Return the image column and the class names of a shard, by label.

    The image column is the one that holds `struct<bytes, ...>`; class names come from the schema metadata.

    Raises:
        InputError: the shard is unreadable, lacks a column or the class names, a column is of another type, or a label
            has no name; says what is there instead.
    """
    refuse_special(path)
    with reading(path):
        schema = pq.read_schema(path)
    image_column = _image_column(schema, label_column, path)
    names = _class_names(schema, label_column, path)
    _check_labels(path, label_column, len(names))
    return image_column, names


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Turn whatever pyarrow raises on a damaged file into one InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:  # the last two: damaged names of columns
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: cannot read this Parquet file ({reason}); download or write it again") from None


def _image_column(schema: pa.Schema, label_column: str, path: Path) -> str:
    columns = [column for column in schema if pa.types.is_struct(column.type)]
    images = [column for column in columns if column.type.get_field_index("bytes") >= 0]
    names = schema.names
    if not images or names.count(label_column) != 1 or names.count(images[0].name) != 1:
        raise InputError(
            f"{path}: expected an image column (struct with 'bytes') and a column '{label_column}', "
            f"got columns {', '.join(names)}"
        )
    encoded, label = images[0].type.field("bytes").type, schema.field(label_column).type
    if not (pa.types.is_binary(encoded) or pa.types.is_large_binary(encoded)):
        raise InputError(f"{path}: the bytes of column '{images[0].name}' are of type {encoded}, expected binary")
    if not pa.types.is_integer(label):
        raise InputError(
            f"{path}: column '{label_column}' is of type {label}, expected integers that number the classes"
        )
    return str(images[0].name)


def _class_names(schema: pa.Schema, label_column: str, path: Path) -> list[str]:
    try:
        features = parse_json((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names: Any = features[label_column]["names"]
    except (KeyError, TypeError, ValueError):
        names = None
    if not isinstance(names, list):
        raise InputError(
            f"{path}: its schema metadata has no class names for '{label_column}' "
            "(expected the Hugging Face 'ClassLabel' entry)"
        )
    odd = [name for name in names if not isinstance(name, str) or not _is_text(name)]
    odd += [name for name, n in Counter(map(str, names)).items() if n > 1]
    if odd:
        raise InputError(
            f"{path}: among its {len(names)} class names for '{label_column}' is {odd[0]!a}; expected distinct texts"
        )
    return names


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return name != ""


def _check_labels(path: Path, label_column: str, n_classes: int) -> None:
    """Refuse labels that name no class: they would be left out unseen."""
    with reading(path):
        labels = pq.ParquetFile(path, page_checksum_verification=True).read(columns=[label_column])[label_column]
        if len(labels) == 0:
            raise InputError(f"{path} has 0 rows; remove it, or write its images into it")
        if n_classes == 0 or labels.null_count == len(labels):
            return
        range_ = pc.min_max(labels).as_py()
        lowest, highest = range_["min"], range_["max"]
    if lowest < UNLABELLED or highest >= n_classes:
        odd = lowest if lowest < UNLABELLED else highest
        raise InputError(
            f"{path}: column '{label_column}' holds the label {odd}, but has {n_classes} class names (labels 0 to "
            f"{n_classes - 1}, {UNLABELLED} or null for none); correct the labels or the names"
        )
