"""One folder on the local disk or behind any pyarrow filesystem URI, with whole-file atomic writes."""

import contextlib
import os
import stat
from collections.abc import Iterator
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


class Storage:
    """Reads, lists and atomically writes small files below one folder.

    Local files appear whole or not at all, and are on disk when `write` returns: temporary name, fsync, rename, fsync
    of the folder. Other filesystems are written directly: an object store shows an object when its upload ends.

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
            return cls(*fs.FileSystem.from_uri(location))
        except (*STORAGE_ERRORS, ValueError) as error:
            message = f"{location!r} is not a location that pyarrow can open: {error}"
            raise InputError(without_secrets(message)) from error

    def path(self, name: str) -> str:
        """Return the filesystem's path of the file `name`, which is relative to the folder."""
        return f"{self.root}/{name}" if name else self.root

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names directly below `folder`; empty if it does not exist.

        Raises:
            InputError: the folder is a link that leads elsewhere.
        """
        if self.is_local:
            _refuse_link_elsewhere(self.root, self.path(folder))
        selector = fs.FileSelector(self.path(folder), allow_not_found=True)
        return sorted(entry.base_name for entry in self.filesystem.get_file_info(selector))

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
            return stream.read()

    def write(self, name: str, data: bytes) -> None:
        """Write one whole file; on failure nothing of it remains and the former content, if any, stays (local)."""
        if self.is_local:
            write_durably(Path(self.path(name)), data)
            return
        try:
            with self.filesystem.open_output_stream(self.path(name)) as stream:
                stream.write(data)
        except BaseException:
            with contextlib.suppress(*STORAGE_ERRORS):
                self.filesystem.delete_file(self.path(name))
            raise

    def delete_temporary_files(self, folder: str = "") -> None:
        """Delete what a killed writer left half-written directly below `folder`."""
        for name in filter(is_temporary, self.names(folder)):
            self.filesystem.delete_file(self.path(f"{folder}/{name}" if folder else name))


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
            f"cannot {task}: {without_secrets(str(error))}; check that the location exists, that you may write there, "
            "and, for a URI, the network and the credentials"
        ) from error
