"""Class folders with links, pipes, odd names and the rest: what is refused, where it leads, and what is left alone."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from corruption import within_seconds
from pictures import encode, picture, write_folder

from rayfs.datasets.image_table import load_table, open_table
from rayfs.datasets.registry import open_benchmark
from rayfs.datasets.sources import open_folder
from rayfs.errors import InputError

PNG = encode(picture(0, 4, 4))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of one image in tmp_path/data; tmp_path/outside holds another image."""
    write_folder(tmp_path / "outside", [(PNG, "secret")])
    return write_folder(tmp_path / "data", [(PNG, "ant"), (PNG, "bee")])


OUTSIDE = (
    "{path} is a link to {target}, outside the data directory {root}; copy the images into it, or pass --data with a "
    "folder that holds both"
)
LOST = "{path} is a link to {target}, which does not exist; restore that or remove the link"
TWICE = "{path} is a link to {target}: its images would count twice; remove the link"
PIPE = "{path} is a pipe, socket or device, not a file; remove it"

REFUSED: dict[str, tuple[str, str | Callable[[Path], None], str, str]] = {
    "image outside": ("ant/1.png", "{tmp}/outside/secret/0.png", OUTSIDE, "{tmp}/outside/secret/0.png"),
    "image outside by dots": ("ant/1.png", "../../outside/secret/0.png", OUTSIDE, "{tmp}/outside/secret/0.png"),
    "image of the system": ("ant/1.png", "/etc/passwd", OUTSIDE, "/etc/passwd"),
    "folder outside": ("ant/more", "{tmp}/outside", OUTSIDE, "{tmp}/outside"),
    "class outside": ("cat", "{tmp}/outside/secret", OUTSIDE, "{tmp}/outside/secret"),
    "class outside by dots": ("cat", "../outside/secret", OUTSIDE, "{tmp}/outside/secret"),
    "parent of all": ("ant/up", "../..", OUTSIDE, "{tmp}"),
    "root of the system": ("cat", "/", OUTSIDE, "/"),
    "lost image": ("ant/1.png", "2.png", LOST, "{root}/ant/2.png"),
    "lost class": ("cat", "dog", LOST, "{root}/dog"),
    "image that is itself": ("ant/1.png", "1.png", LOST, "{root}/ant/1.png"),
    "class that is itself": ("cat", "cat", LOST, "{root}/cat"),
    "circle": ("ant/again", ".", TWICE, "{root}/ant"),
    "pipe": ("ant/1.png", os.mkfifo, PIPE, ""),
    "device": ("ant/1.png", "/dev/zero", OUTSIDE, "/dev/zero"),
    "image that is not UTF-8": (
        os.fsdecode(b"ant/caf\xe9.png"), lambda path: path.write_bytes(PNG),
        r"{root}/ant holds b'caf\xe9.png', a name that is not UTF-8; rename it", "",
    ),
    "class that is not UTF-8": (
        os.fsdecode(b"caf\xe9"), Path.mkdir, r"{root} holds b'caf\xe9', a name that is not UTF-8; rename it", "",
    ),
    "class of no image": (
        "cat", Path.mkdir, "{path} holds no image (.png, .jpg, .jpeg, .webp, .bmp); add some or remove the folder", "",
    ),
}  # fmt: skip
"""Name -> (path below the data directory, target of a link or what is put there, message, where the link leads)."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_entry_is_refused_when_the_folder_is_opened(root: Path, name: str) -> None:
    below, put, message, target = REFUSED[name]
    path = root / below
    places = {"tmp": root.parent, "root": root}
    if isinstance(put, str):
        path.symlink_to(put.format(**places))
    else:
        put(path)
    expected = message.format(path=path, target=target.format(**places), **places)
    with pytest.raises(InputError) as refusal:
        within_seconds(lambda: open_folder(root))
    assert str(refusal.value) == expected


def test_a_split_that_is_a_link_out_of_the_data_directory_is_refused(root: Path) -> None:
    (root.parent / "set").mkdir()
    (root.parent / "set" / "train").symlink_to(root)
    benchmark = open_benchmark("folder", str(root.parent / "set"))
    with pytest.raises(InputError) as refusal:
        benchmark.source("base", root.parent)
    assert str(refusal.value) == OUTSIDE.format(
        path=root.parent / "set" / "train", target=root, root=root.parent / "set"
    )


def test_a_split_may_link_to_classes_of_a_pool_inside_the_data_directory(root: Path) -> None:
    (root / "train").mkdir()
    (root / "train" / "ant").symlink_to("../ant")
    source = open_benchmark("folder", str(root)).source("base", root.parent)
    assert [(image.class_name, image.encoded) for image in source.read()] == [("ant", PNG)]


def test_the_data_directory_itself_may_be_a_link(root: Path) -> None:
    (root / "train").mkdir()
    (root / "ant").rename(root / "train" / "ant")
    (root.parent / "link").symlink_to(root)
    assert open_benchmark("folder", str(root.parent / "link")).source("base", root.parent).count() == 1


def test_two_links_to_one_folder_do_not_multiply(root: Path) -> None:
    """Thirty folders of two links each to the next would be a billion paths."""
    for i in range(30):
        (root / "ant" / f"level{i}").mkdir()
        for name in "ab":
            (root / "ant" / f"level{i}" / name).symlink_to(f"../level{i + 1}")
    (root / "ant" / "level30").mkdir()
    with pytest.raises(InputError, match="its images would count twice; remove the link"):
        within_seconds(lambda: open_folder(root))


@pytest.mark.parametrize(
    "stray", [".hidden.png", ".thumbs/1.png", "notes.txt", os.fsdecode(b"caf\xe9.txt"), "1.png.part"]
)
def test_hidden_files_and_what_is_no_image_by_its_ending_are_left_alone(root: Path, stray: str) -> None:
    path = root / "ant" / stray
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("/etc/passwd")
    (root / "labels.csv").symlink_to("/etc/passwd")
    assert open_folder(root).count() == 2


def test_a_folder_called_like_an_image_is_searched(root: Path) -> None:
    write_folder(root / "ant" / "1.png", [(PNG, "more.jpg")])
    assert open_folder(root).files == (("ant/0.png", "ant"), ("ant/1.png/more.jpg/0.png", "ant"), ("bee/1.png", "bee"))


def test_a_folder_that_may_not_be_listed_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The superuser may list everything, so the refusal of the system is played by hand."""
    listed = Path.iterdir

    def refuse(path: Path):
        if path.name == "bee":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError) as refusal:
        open_folder(root)
    assert str(refusal.value) == f"{root}/bee: cannot list the folder (Permission denied); check its permissions"


# What the cache holds of decoded images


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("images.npy", b""),
        ("images.npy", b"\x93NUMPY\x01\x00"),
        ("images.npy", b"\x80\x04cos\nsystem\n."),
        ("offsets.npy", b""),
        ("offsets.npy", b"hello"),
        ("classes.json", b""),
        ("classes.json", b"[" * 100_000),
        ("classes.json", b"5"),
        ("classes.json", b'["ant"]'),
        ("classes.json", b'["ant", "\xff"]'),
    ],
)
def test_a_damaged_table_in_the_cache_is_refused_with_the_folder_to_remove(
    root: Path, file: str, content: bytes
) -> None:
    table = load_table(open_folder(root), root.parent / "cache", channels=3, image_size=4)
    (table.path / file).write_bytes(content)
    with pytest.raises(InputError) as refusal:
        open_table(root.parent / "cache", table.fingerprint)
    advice = "remove that folder: its images will be decoded again"
    assert str(refusal.value) == f"image table {table.path} is damaged; {advice}"


@pytest.mark.parametrize("fingerprint", ["", "..", "../../elsewhere", "/etc", "abc\0"])
def test_a_fingerprint_is_no_path(root: Path, fingerprint: str) -> None:
    (root / "tables").mkdir()
    np.save(root / "images.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"^image table .* is not in .*; on a cluster, RAYFS_CACHE must name"):
        open_table(root, fingerprint)
