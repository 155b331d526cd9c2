"""Where images come from before they are decoded: Parquet shards or class folders. Nothing is decoded here."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayfs.datasets.folder_files import class_folders, image_files, refuse_outside
from rayfs.datasets.images import EXTENSIONS, refuse_too_many_bytes
from rayfs.datasets.shard_schema import read_shard_schema, reading
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
            with reading(path):
                file = pq.ParquetFile(path, page_checksum_verification=True)
                labels = file.read(columns=[self.label_column])[self.label_column]
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
            with reading(path):
                file = pq.ParquetFile(path, page_checksum_verification=True)
                row = 0
                for batch in file.iter_batches(batch_size=1024, columns=[self.image_column, self.label_column]):
                    labels = batch.column(self.label_column).to_pylist()
                    encoded = batch.column(self.image_column).field("bytes")
                    for offset, label in enumerate(labels):
                        if label in names:
                            yield encoded_row(encoded[offset].as_py(), names[label], f"{path}, row {row + offset}")
                    row += len(labels)
                if row != file.metadata.num_rows:  # the footer has no checksum
                    raise ValueError(f"it has {row} rows of {file.metadata.num_rows}")


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
        refuse_too_many_bytes(Path(path).stat().st_size, path)
        return EncodedImage(class_name=class_name, encoded=Path(path).read_bytes(), where=path)
    except OSError as error:
        raise InputError(f"{path}: cannot read the image ({error.strerror}); check its permissions") from None


def open_parquet(paths: Sequence[Path], label_column: str, keep: Callable[[str], bool]) -> ParquetSource:
    """Describe the images of the classes that `keep` admits in Hugging Face Parquet shards.

    Raises:
        InputError: a shard is unreadable or not as `read_shard_schema` expects it, or is of another dataset.
    """
    classes: list[tuple[int, str]] = []
    image_column = ""
    for path in sorted(paths):
        images, names = read_shard_schema(path, label_column)
        found = [(i, name) for i, name in enumerate(names) if keep(name)]
        if classes and (found, images) != (classes, image_column):
            raise InputError(f"{path}: its classes or columns differ from those of {min(paths)}; are they one dataset?")
        classes, image_column = found, images
    return ParquetSource(
        paths=tuple(str(path) for path in sorted(paths)),
        image_column=image_column,
        label_column=label_column,
        classes=tuple(classes),
    )


def open_folder(root: Path, data_dir: Path | None = None) -> FolderSource:
    """Describe the images below `root`, one folder a class; files that are no images by their ending are left out.

    Arguments:
        data_dir: the folder that links may not leave; `root` itself if it is not given.

    Raises:
        InputError: `root` is no directory, has no class folders, a class folder holds no image, or there is something
            that `rayfs.datasets.folder_files` refuses.
    """
    data_dir = data_dir or root
    if root.exists() or root.is_symlink():
        refuse_outside(root, data_dir)
    if not root.is_dir():
        raise InputError(f"{root} is not a directory; expected one folder of images per class in it")
    class_dirs = class_folders(root, data_dir)
    if not class_dirs:
        raise InputError(f"{root} has no class folders; expected {root}/<class name>/<image>.png or .jpg")
    files = []
    for class_dir in class_dirs:
        images = image_files(class_dir, data_dir)
        if not images:
            raise InputError(f"{class_dir} holds no image ({', '.join(EXTENSIONS)}); add some or remove the folder")
        files += [(str(path.relative_to(root)), class_dir.name) for path in images]
    return FolderSource(root=str(root), files=tuple(files))


def _known(wanted: Collection[str], class_names: Collection[str]) -> frozenset[str]:
    unknown = sorted(set(wanted) - set(class_names))
    if unknown:
        raise ValueError(f"expected some of the {len(class_names)} classes of the source, got also {unknown}")
    return frozenset(wanted)


def _stat(path: str | Path) -> list[str | int]:
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path}: cannot read the file ({error.strerror}); restore or remove it") from None
    return [str(path), stat.st_size, stat.st_mtime_ns]
