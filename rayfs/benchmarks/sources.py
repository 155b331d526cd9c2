"""Where images come from before they are decoded: Parquet shards or class folders. Nothing is decoded here."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayfs.benchmarks.images import EXTENSIONS
from rayfs.errors import InputError
from rayfs.hashing import stable_hash


@dataclass(frozen=True, kw_only=True)
class EncodedImage:
    """One image as stored: its class name, its bytes, and `where` it was found, for messages."""

    class_name: str
    encoded: bytes
    where: str


@dataclass(frozen=True, kw_only=True)
class ParquetSource:
    """Images of some classes in Parquet shards with an image column (`struct<bytes, path>`) and a label column."""

    paths: tuple[str, ...]
    image_column: str
    label_column: str
    classes: tuple[tuple[int, str], ...]
    """(label in the file, class name) of the classes to keep, by class name."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted(name for _, name in self.classes))

    def only(self, class_names: Collection[str]) -> "ParquetSource":
        """Return the source of some of the classes; its signature and so its cached table are its own."""
        wanted = _known(class_names, self.class_names)
        return replace(self, classes=tuple(entry for entry in self.classes if entry[1] in wanted))

    def signature(self) -> str:
        """Identify the source cheaply: paths, sizes, modification times and what is kept; contents are not read."""
        return stable_hash(
            [
                "parquet",
                [_stat(path) for path in self.paths],
                self.image_column,
                self.label_column,
                sorted(self.classes),
            ]
        )

    def count(self) -> int:
        """Count the kept images, reading the label columns only."""
        return sum(self.class_counts().values())

    def class_counts(self) -> dict[str, int]:
        """Count the kept images of each class, reading the label columns only.

        Raises:
            InputError: a shard cannot be read.
        """
        counts: Counter[int] = Counter()
        for path in self.paths:
            with _reading(path):
                labels = pq.ParquetFile(path).read(columns=[self.label_column])[self.label_column]
            found = pc.value_counts(labels)
            counts.update(dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)))
        return {name: counts[label] for label, name in self.classes}

    def read(self) -> Iterator[EncodedImage]:
        """Yield every kept image, shard by shard and row group by row group.

        Raises:
            InputError: a shard cannot be read, or a kept row has no image bytes.
        """
        names = dict(self.classes)
        for path in self.paths:
            with _reading(path):
                file = pq.ParquetFile(path)
                row = 0
                for batch in file.iter_batches(batch_size=1024, columns=[self.image_column, self.label_column]):
                    labels = batch.column(self.label_column).to_pylist()
                    encoded = batch.column(self.image_column).field("bytes")
                    for offset, label in enumerate(labels):
                        if label in names:
                            yield encoded_row(encoded[offset].as_py(), names[label], f"{path}, row {row + offset}")
                    row += len(labels)


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Images as files below `root`, one folder a class."""

    root: str
    files: tuple[tuple[str, str], ...]
    """(path relative to `root`, class name), sorted."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({name for _, name in self.files}))

    def only(self, class_names: Collection[str]) -> "FolderSource":
        """Return the source of some of the classes; its signature and so its cached table are its own."""
        wanted = _known(class_names, self.class_names)
        return replace(self, files=tuple(file for file in self.files if file[1] in wanted))

    def signature(self) -> str:
        """Identify the source cheaply: names, sizes and modification times; contents are not read."""
        return stable_hash(["folder", [[*_stat(Path(self.root) / path), name] for path, name in self.files]])

    def count(self) -> int:
        """Count the images."""
        return len(self.files)

    def class_counts(self) -> dict[str, int]:
        """Count the images of each class."""
        return dict(sorted(Counter(name for _, name in self.files).items()))

    def read(self) -> Iterator[EncodedImage]:
        """Yield every image.

        Raises:
            InputError: a file cannot be read.
        """
        for path, name in self.files:
            yield read_file(str(Path(self.root) / path), name)


Source = ParquetSource | FolderSource


def encoded_row(encoded: bytes | None, class_name: str, where: str) -> EncodedImage:
    """Wrap one Parquet row, refusing a null image."""
    if encoded is None:
        raise InputError(f"{where}: the row has no image bytes (only a path?); write the bytes into the Parquet file")
    return EncodedImage(class_name=class_name, encoded=encoded, where=where)


def read_file(path: str, class_name: str) -> EncodedImage:
    """Read one image file."""
    try:
        return EncodedImage(class_name=class_name, encoded=Path(path).read_bytes(), where=path)
    except OSError as error:
        raise InputError(f"{path}: cannot read the image ({error.strerror}); check its permissions") from None


def open_parquet(paths: Sequence[Path], label_column: str, keep: Callable[[str], bool]) -> ParquetSource:
    """Describe the images of the classes that `keep` admits in Hugging Face Parquet shards.

    The image column is the one that holds `struct<bytes, ...>`; class names come from the schema metadata.

    Raises:
        InputError: a shard is unreadable, or lacks a column or the class names; says what is there instead.
    """
    classes: list[tuple[int, str]] = []
    image_column = ""
    for path in sorted(paths):
        schema = _read_schema(path)
        structs = [column.name for column in schema if pa.types.is_struct(column.type)]
        images = [name for name in structs if schema.field(name).type.get_field_index("bytes") >= 0]
        if not images or label_column not in schema.names:
            raise InputError(
                f"{path}: expected an image column (struct with 'bytes') and a column '{label_column}', "
                f"got columns {', '.join(schema.names)}"
            )
        found = [(i, name) for i, name in enumerate(_class_names(schema, label_column, path)) if keep(name)]
        if classes and (found, images[0]) != (classes, image_column):
            raise InputError(f"{path}: its classes or columns differ from those of {min(paths)}; are they one dataset?")
        classes, image_column = found, images[0]
    return ParquetSource(
        paths=tuple(str(path) for path in sorted(paths)),
        image_column=image_column,
        label_column=label_column,
        classes=tuple(classes),
    )


def open_folder(root: Path) -> FolderSource:
    """Describe the images below `root`, one folder a class; files that are no images by their ending are left out.

    Raises:
        InputError: `root` is no directory, has no class folders, or a class folder holds no image.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a directory; expected one folder of images per class in it")
    class_dirs = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not class_dirs:
        raise InputError(f"{root} has no class folders; expected {root}/<class name>/<image>.png or .jpg")
    files = []
    for class_dir in class_dirs:
        images = sorted(path for path in class_dir.rglob("*") if _is_image(path, class_dir))
        if not images:
            raise InputError(f"{class_dir} holds no image ({', '.join(EXTENSIONS)}); add some or remove the folder")
        files += [(str(path.relative_to(root)), class_dir.name) for path in images]
    return FolderSource(root=str(root), files=tuple(files))


def _is_image(path: Path, class_dir: Path) -> bool:
    """Tell by its name whether `path` is an image; a hidden one is none, a dangling link is one that will be missed."""
    hidden = any(part.startswith(".") for part in path.relative_to(class_dir).parts)
    return path.suffix.lower() in EXTENSIONS and not hidden and not path.is_dir()


def _known(wanted: Collection[str], class_names: Collection[str]) -> frozenset[str]:
    unknown = sorted(set(wanted) - set(class_names))
    if unknown:
        raise ValueError(f"expected some of the {len(class_names)} classes of the source, got also {unknown}")
    return frozenset(wanted)


def _read_schema(path: Path) -> pa.Schema:
    with _reading(path):
        return pq.read_schema(path)


@contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: cannot read this Parquet file ({_first_line(error)}); download or write it again"
        ) from None


def _class_names(schema: pa.Schema, label_column: str, path: Path) -> list[str]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return list(features[label_column]["names"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: its schema metadata has no class names for '{label_column}' "
            "(expected the Hugging Face 'ClassLabel' entry)"
        ) from None


def _stat(path: str | Path) -> list[str | int]:
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path}: cannot read the file ({error.strerror}); restore or remove it") from None
    return [str(path), stat.st_size, stat.st_mtime_ns]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
