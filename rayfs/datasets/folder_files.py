"""Class folders and the image files in them, found without leaving the data directory, waiting or going in circles.

Links are followed inside the data directory and refused where they leave it; hidden files and folders are left out.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from rayfs.datasets.images import EXTENSIONS
from rayfs.errors import InputError


def class_folders(root: Path, data_dir: Path) -> list[Path]:
    """Return the folders directly below `root`, sorted; loose files are none.

    Raises:
        InputError: `root` cannot be listed, or a link leads out of `data_dir` or nowhere; says where.
    """
    folders_and_lost = [path for path in _entries(root) if path.is_dir() or not path.exists()]
    return sorted(path for path in folders_and_lost if _is_folder(path, data_dir))


def image_files(folder: Path, data_dir: Path) -> list[Path]:
    """Return the files below `folder` that are images by their ending, sorted.

    Raises:
        InputError: a folder cannot be listed or is met twice, a link leads out of `data_dir` or nowhere, a file is a
            pipe, socket or device, or a name is no text.
    """
    found, folders, seen = [], [folder], {os.path.realpath(folder): folder}
    while folders:
        for path in _entries(folders.pop()):
            image = path.suffix.lower() in EXTENSIONS
            if not image and not path.is_dir():
                continue
            if _is_folder(path, data_dir):
                first = seen.setdefault(os.path.realpath(path), path)
                if first != path:
                    raise InputError(f"{path} is a link to {first}: its images would count twice; remove the link")
                folders.append(path)
            else:
                refuse_special(path)
                found.append(path)
    return sorted(found)


def refuse_outside(path: Path, data_dir: Path) -> None:
    """Refuse a path that leads out of `data_dir`, or nowhere.

    Raises:
        InputError: says where it leads.
    """
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(data_dir)):
        raise InputError(
            f"{path} is a link to {real}, outside the data directory {data_dir}; copy the images into it, or pass "
            "--data with a folder that holds both"
        )
    if not path.exists():
        raise InputError(f"{path} is a link to {real}, which does not exist; restore that or remove the link")


def refuse_special(path: Path) -> None:
    """Refuse what is no regular file: to read a pipe is to wait without end.

    Raises:
        InputError: says what it is, or that there is nothing.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(f"{path}: cannot read the file ({error.strerror}); restore or remove it") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise InputError(f"{path} is {kind}, not a file; remove it")


def _is_folder(path: Path, data_dir: Path) -> bool:
    _refuse_broken_name(path)
    if path.is_symlink():
        refuse_outside(path, data_dir)
    return path.is_dir()


def _entries(folder: Path) -> Iterator[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot list the folder ({error.strerror}); check its permissions") from None
    return (path for path in entries if not path.name.startswith("."))


def _refuse_broken_name(path: Path) -> None:
    """Refuse names that are not UTF-8: they cannot be printed, stored in Parquet or sent to workers."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        name = os.fsencode(path.name)
        raise InputError(f"{path.parent} holds {name!r}, a name that is not UTF-8; rename it") from None
