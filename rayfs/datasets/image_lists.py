"""ImageNet-LT and Places-LT: a folder of images and the official lists of them, lines of "relative/path label".

Ziwei Liu, Zhongqi Miao, Xiaohang Zhan, Jiayun Wang, Boqing Gong, Stella X. Yu. "Large-Scale Long-Tailed Recognition in
an Open World", CVPR 2019 (OLTR), whose authors publish `ImageNet_LT_train.txt`, `ImageNet_LT_val.txt`, ...
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from rayfs.datasets.folder_files import refuse_outside, refuse_special
from rayfs.datasets.sources import FolderSource
from rayfs.errors import InputError

LIST_ENDINGS = {"base": "train", "validation": "val", "test": "test"}

MAX_CLASSES = 10_000
"""Labels have four digits in class names, so that names sort as labels do."""


def open_image_list(root: Path, prefix: str, split: str, cache_dir: Path) -> FolderSource:
    """Describe the images of `<root>/<prefix>_{train,val,test}.txt`, whose paths are relative to `root`.

    A class is called by its label and the folder of its first training image: `0003 n01491361`,
    `0045 a/apartment_building/outdoor` (without the first part of the path, `train` or `data_256`).

    Raises:
        InputError: a list is missing or unreadable, a line is no path and label, a path leaves `root` (by itself or by
            a link) or leads to no file, an image is listed twice or in the training list, too, or training labels have
            a gap.
    """
    trained = list(_lines(_list_path(root, prefix, "base")))
    names = _class_names(trained, _list_path(root, prefix, "base"))
    path = _list_path(root, prefix, split)
    lines = trained if split == "base" else list(_lines(path))
    seen = {} if split == "base" else {image: f"the training list, line {line}," for line, image, _ in trained}
    files = []
    for line, image, label in lines:
        if image in seen:
            raise InputError(f"{path}, line {line}: {image} is in {seen[image]} already; remove one of the two")
        seen[image] = f"line {line}"
        if label not in names:
            raise InputError(
                f"{path}, line {line}: the label is {label}, but the {len(names)} training classes are 0 to "
                f"{len(names) - 1}; are both lists of one benchmark?"
            )
        _refuse_lost(root, image, f"{path}, line {line}")
        files.append((image, names[label]))
    return FolderSource(root=str(root), files=tuple(sorted(files)))


def _list_path(root: Path, prefix: str, split: str) -> Path:
    return root / f"{prefix}_{LIST_ENDINGS[split]}.txt"


def _lines(path: Path) -> Iterator[tuple[int, str, int]]:
    """Yield (line number, path of the image, label) of a list; empty lines are left out."""
    if not path.exists():
        raise InputError(f"there is no {path}; put the official lists into --data DIR, beside the folders of images")
    refuse_special(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot read the list ({error.strerror}); check its permissions") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; download the list again") from None
    n = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        image, _, label = line.strip().rpartition(" ")
        image = image.strip()
        if not image or not label.isascii() or not label.isdigit() or int(label) >= MAX_CLASSES:
            raise InputError(
                f"{path}, line {number}: {line.strip()[:200]!r} is no path and label; expected 'folder/image.jpg 17', "
                f"with a label of 0 to {MAX_CLASSES - 1:,}"
            )
        n += 1
        yield number, image, int(label)
    if not n:
        raise InputError(f"{path} lists 0 images; download it again")


def _class_names(trained: list[tuple[int, str, int]], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for _, image, label in trained:
        if label not in names:
            folders = PurePosixPath(image).parent.parts
            names[label] = " ".join([f"{label:04d}", "/".join(folders[1:] or folders)]).strip()
    gaps = sorted(set(range(max(names) + 1)) - set(names))
    if gaps:
        raise InputError(
            f"{path}: labels go up to {max(names)}, but {len(gaps)} of them have no training image, the first is "
            f"{gaps[0]}; expected every label from 0 on: download the list again"
        )
    return names


def _refuse_lost(root: Path, image: str, where: str) -> None:
    path = PurePosixPath(image)
    if path.is_absolute() or ".." in path.parts or "\0" in image:
        raise InputError(f"{where}: {image!r} leaves {root}; expected a path relative to it")
    full = root / image
    if not full.exists() and not full.is_symlink():
        raise InputError(f"{where}: there is no {full}; download the images, or pass --data with their folder")
    try:
        refuse_outside(full, root)
        refuse_special(full)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
