"""One folder on the local disk or behind any pyarrow filesystem URI, with whole-file atomic writes."""

import contextlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from rayfs.durable_files import TEMPORARY_SUFFIX, write_durably
from rayfs.errors import InputError
from rayfs.redaction import without_secrets

STORAGE_ERRORS = (OSError, pa.ArrowException)
"""What the local disk and pyarrow's filesystems raise."""

OBJECT_STORES = ("s3", "gcs", "abfs")
"""Types of filesystems that show an object only when its upload is complete, and the former one until then."""

S3_ATTEMPTS = 4
"""Of one request. pyarrow's own way with a URI tries for minutes where a server takes connections and never answers."""


def location_below(location: str, name: str) -> str:
    """Return the location of `name` in the folder at `location`; the options of a URI stay at its end."""
    folder, mark, options = location.partition("?") if "://" in location else (location, "", "")
    return f"{folder.rstrip('/')}/{name}{mark}{options}"


class Storage:
    """Reads, lists and atomically writes small files below one folder.

    Local files appear whole or not at all, and are on disk when `write` returns: temporary name, fsync, rename, fsync
    of the folder. Other filesystems are written directly: an object store shows an object when its upload ends, and of
    an upload that fails, or whose process dies, nothing.

    Arguments:
        filesystem: any pyarrow filesystem.
        root: path of the folder on it.
    """

    def __init__(self, filesystem: Any, root: str) -> None:
        self.filesystem = filesystem
        self.root = root.rstrip("/") or "/"
        self.is_local: bool = filesystem.type_name == "local"

    @classmethod
    def at(cls, location: str) -> "Storage":
        """Return the storage of a local path (`~` allowed) or URI (`s3://`, `gs://`, `hdfs://`, `file://` ...).

        Raises:
            InputError: if the location is empty or no text, or pyarrow cannot make a filesystem of the URI.
        """
        if not location:
            raise InputError("the run directory is an empty text; give a local path or a URI such as s3://bucket/run")
        if not _is_text(location):
            raise InputError(f"the run directory {os.fsencode(location)!r} is no UTF-8 text; give it another name")
        if "://" not in location:
            return cls(fs.LocalFileSystem(), str(Path(location).expanduser().absolute()))
        try:
            filesystem, root = fs.FileSystem.from_uri(location)
            return cls(_bounded(filesystem) if filesystem.type_name == "s3" else filesystem, root)
        except (*STORAGE_ERRORS, ValueError) as error:
            message = f"{location!r} is not a location that pyarrow can open: {error}"
            raise InputError(without_secrets(message)) from error

    def path(self, name: str) -> str:
        """Return the filesystem's path of the file `name`, which is relative to the folder."""
        return f"{self.root}/{name}" if name else self.root

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names directly below `folder`; empty if it does not exist.

        Raises:
            InputError: the folder is a link that leads elsewhere, or the object store has no such bucket.
        """
        if self.is_local:
            _refuse_link_elsewhere(self.root, self.path(folder))
        selector = fs.FileSelector(self.path(folder), allow_not_found=True)
        names = sorted(entry.base_name for entry in self.filesystem.get_file_info(selector))
        if not names and self.filesystem.type_name in OBJECT_STORES:
            self._refuse_missing_bucket()
        return names

    def _refuse_missing_bucket(self) -> None:
        bucket = self.root.split("/")[0]
        if self.filesystem.get_file_info(bucket).type == fs.FileType.NotFound:
            raise InputError(f"there is no bucket '{bucket}' of {self.root}; create it, or correct its name")

    def dates(self, folder: str = "") -> dict[str, datetime]:
        """Return when each file directly below `folder` was last written, where the filesystem says so."""
        selector = fs.FileSelector(self.path(folder), allow_not_found=True)
        files = self.filesystem.get_file_info(selector)
        return {file.base_name: file.mtime for file in files if file.mtime is not None}

    def make_folder(self, folder: str = "") -> None:
        """Create `folder` and its parents where missing."""
        self.filesystem.create_dir(self.path(folder), recursive=True)

    def open(self, name: str) -> Any:
        """Return a seekable Arrow input file.

        Raises:
            InputError: the file lies elsewhere, behind a link, or is none (a pipe would be waited for without end).
        """
        if self.is_local:
            _refuse_link_elsewhere(self.root, self.path(name))
            _refuse_no_file(self.path(name))
        return self.filesystem.open_input_file(self.path(name))

    def read(self, name: str) -> bytes:
        """Return the content of one file."""
        with self.open(name) as stream:
            content: bytes = stream.read()
            return content

    def write(self, name: str, data: bytes) -> None:
        """Write one whole file; on failure nothing of it remains.

        The former content, if any, stays on the local disk and in object stores.
        """
        if self.is_local:
            write_durably(Path(self.path(name)), data)
            return
        if self.filesystem.type_name in OBJECT_STORES:
            with ThreadPoolExecutor(1) as pool:  # Ctrl-C reaches the main thread only: it cannot cut an upload short
                pool.submit(self._upload, name, data).result()
            return
        try:
            with self.filesystem.open_output_stream(self.path(name)) as stream:
                stream.write(data)
        except BaseException:
            with contextlib.suppress(*STORAGE_ERRORS):
                self.filesystem.delete_file(self.path(name))
            raise

    def _upload(self, name: str, data: bytes) -> None:
        """Upload one object; no `with`, whose end would complete a broken upload and show half an object."""
        stream = self.filesystem.open_output_stream(self.path(name))
        stream.write(data)
        stream.close()

    def delete(self, name: str) -> None:
        """Delete one file."""
        self.filesystem.delete_file(self.path(name))

    def delete_temporary_files(self, folder: str = "") -> None:
        """Delete what a killed writer left half-written directly below `folder`."""
        for name in filter(is_temporary, self.names(folder)):
            self.filesystem.delete_file(self.path(f"{folder}/{name}" if folder else name))


_NEVER_IN_A_URI = ("connect_timeout", "request_timeout", "proxy_options")
"""Options of `S3FileSystem` whose unset values its constructor does not take back."""


def _bounded(filesystem: Any) -> Any:
    """Return the S3 filesystem of a URI with `S3_ATTEMPTS`, which a URI cannot say; its other options stay."""
    options = filesystem.__reduce__()[1][0]
    of_uri = {name: value for name, value in options.items() if value and name not in _NEVER_IN_A_URI}
    return fs.S3FileSystem(**of_uri, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=S3_ATTEMPTS))


def _refuse_link_elsewhere(root: str, path: str) -> None:
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(root)):
        raise InputError(f"{path} is a link to {real}, outside {root}; put the file itself there, or remove the link")


def _refuse_no_file(path: str) -> None:
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise InputError(f"{path} is {kind}, not a file; move it away")


def _is_text(location: str) -> bool:
    """Tell whether `location` is free of the halves of broken file names."""
    try:
        location.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in location


def is_temporary(name: str) -> bool:
    """Tell whether `name` is a file that `Storage.write` had not finished."""
    return name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)


@contextlib.contextmanager
def explained(task: str) -> Iterator[None]:
    """Turn any storage error into one InputError that says what could not be done and where to look."""
    try:
        yield
    except STORAGE_ERRORS as error:
        raise InputError(
            f"cannot {task}: {without_secrets(str(error))}; check that the location exists and has room, that you may "
            "write there, and, for a URI, the network and the credentials"
        ) from error
