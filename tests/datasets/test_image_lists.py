"""ImageNet-LT and Places-LT on small folders of the same layout, and every line that is refused."""

import os
from pathlib import Path

import pytest
from pictures import encode, picture

from rayfs.datasets.augmentation import Augmentation
from rayfs.datasets.image_table import load_table
from rayfs.datasets.registry import IMAGENET_MEAN, IMAGENET_STD, open_benchmark
from rayfs.errors import InputError

TRAIN = [f"train/n01/n01_{i}.JPEG 0" for i in range(3)] + ["train/n02/n02_0.JPEG 1", "train/n02/n02_1.JPEG 1"]
VAL = ["train/n01/n01_9.JPEG 0", "train/n02/n02_9.JPEG 1"]
TEST = ["val/n02/val_1.JPEG 1", "val/n01/val_0.JPEG 0"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small ImageNet-LT: two classes of 3 and 2 training images."""
    folder = tmp_path / "imagenet"
    folder.mkdir()
    for name, lines in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        write_list(folder, name, lines)
        for i, line in enumerate(lines):
            path = folder / line.split()[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(picture(10 * len(name) + i, 20, 24), "JPEG"))
    return folder


def write_list(root: Path, name: str, lines: list[str], prefix: str = "ImageNet_LT") -> None:
    (root / f"{prefix}_{name}.txt").write_text("\n".join(lines) + "\n")


def source(root: Path, split: str = "base", name: str = "imagenet-lt"):
    return open_benchmark(name, str(root)).source(split, root.parent)


@pytest.mark.parametrize(
    ("split", "counts"),
    [("base", [3, 2]), ("validation", [1, 1]), ("test", [1, 1])],
)
def test_every_split_has_the_classes_of_the_training_list(root, split, counts):
    found = source(root, split)
    assert found.class_counts() == dict(zip(["0000 n01", "0001 n02"], counts, strict=True))
    table = load_table(found, root.parent / "cache", channels=3, image_size=16)
    assert (table.class_names, table.class_counts().tolist()) == (("0000 n01", "0001 n02"), counts)


def test_benchmark_describes_its_images(root):
    benchmark = open_benchmark("imagenet-lt", str(root))
    assert (benchmark.image_size, benchmark.mean, benchmark.std) == (224, IMAGENET_MEAN, IMAGENET_STD)
    assert benchmark.augmentation == Augmentation(crop_area=0.08, jitter=0.4, flip=True)
    assert benchmark.shared_classes


def test_names_are_in_the_order_of_the_labels_also_past_ten_and_tell_the_folder(tmp_path):
    lines = []
    for label in (11, *range(11)):
        image = f"data_256/x/place_{label}/outdoor/1.jpg"
        (tmp_path / image).parent.mkdir(parents=True)
        (tmp_path / image).write_bytes(b"not decoded here")
        lines.append(f"{image} {label}")
    write_list(tmp_path, "train", lines, prefix="Places_LT")
    names = source(tmp_path, name="places-lt").class_names
    assert names == tuple(f"{label:04d} x/place_{label}/outdoor" for label in range(12))


def test_empty_lines_and_windows_line_ends_are_no_error(root):
    (root / "ImageNet_LT_val.txt").write_bytes("\r\n".join([VAL[0], "", VAL[1], "", ""]).encode())
    assert source(root, "validation").count() == 2


def test_a_path_with_spaces_is_read_up_to_the_label(root):
    (root / "train/n01/a b.JPEG").write_bytes(b"x")
    write_list(root, "train", [*TRAIN, "train/n01/a b.JPEG 0"])
    assert source(root).count() == 6


def test_links_inside_the_folder_are_followed(root):
    (root / "linked").symlink_to(root / "train")
    write_list(root, "train", [line.replace("train/", "linked/") for line in TRAIN])
    assert source(root).count() == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/n01/absent.JPEG 0", "there is no .*/absent.JPEG; download the images"),
        ("../secret.JPEG 0", "'../secret.JPEG' leaves .*; expected a path relative to it"),
        ("/etc/hostname 0", "'/etc/hostname' leaves "),
        ("train/../../secret.JPEG 0", "leaves "),
        ("out.JPEG 0", "out.JPEG is a link to .*, outside the data directory"),
        ("lost.JPEG 0", "lost.JPEG is a link to .* which does not exist|outside the data directory"),
        ("pipe.JPEG 0", "pipe.JPEG is a pipe, socket or device, not a file"),
        ("train/n01 0", "train/n01 is a folder, not a file"),
        ("train/n01/n01_0.JPEG zero", "is no path and label; expected 'folder/image.jpg 17'"),
        ("train/n01/n01_0.JPEG -1", "is no path and label"),
        ("train/n01/n01_0.JPEG 1.0", "is no path and label"),
        ("train/n01/n01_0.JPEG ٣", "is no path and label"),
        ("train/n01/n01_0.JPEG 99999999999999999999", "is no path and label"),
        ("train/n01/n01_0.JPEG", "is no path and label"),
        ("0", "is no path and label"),
        ("train/n01/n01_0.JPEG 0", "n01_0.JPEG is in line 1 already"),
    ],
)
def test_a_hostile_line_is_refused_by_its_number(root, line, message):
    (root.parent / "secret.JPEG").write_bytes(b"secret")
    (root / "out.JPEG").symlink_to(root.parent / "secret.JPEG")
    (root / "lost.JPEG").symlink_to(root / "nowhere.JPEG")
    os.mkfifo(root / "pipe.JPEG")
    write_list(root, "train", [*TRAIN, line])
    with pytest.raises(InputError, match=rf"ImageNet_LT_train.txt, line 6: .*(?:{message})"):
        source(root)


def test_a_gap_in_the_training_labels_is_refused(root):
    write_list(root, "train", [line.replace("JPEG 1", "JPEG 3") for line in TRAIN])
    with pytest.raises(InputError, match="labels go up to 3, but 2 of them have no training image, the first is 1"):
        source(root)


def test_a_label_without_training_images_is_refused_elsewhere(root):
    write_list(root, "val", [*VAL, "val/n01/val_0.JPEG 2"])
    with pytest.raises(InputError, match=r"val\.txt, line 3: the label is 2, but the 2 training classes are 0 to 1"):
        source(root, "validation")


def test_an_image_of_the_training_list_is_refused_elsewhere(root):
    write_list(root, "test", [*TEST, TRAIN[0]])
    with pytest.raises(InputError, match=r"test\.txt, line 3: .*n01_0\.JPEG is in the training list, line 1, already"):
        source(root, "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lists 0 images"),
        (b"\n \n", "lists 0 images"),
        (b"train/\xff.JPEG 0", "is not UTF-8 text"),
        (None, "there is no"),
    ],
)
def test_a_list_that_is_none_is_refused(root, content, message):
    path = root / "ImageNet_LT_val.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        source(root, "validation")


def test_a_list_that_is_a_pipe_is_not_waited_for(root):
    (root / "ImageNet_LT_val.txt").unlink()
    os.mkfifo(root / "ImageNet_LT_val.txt")
    with pytest.raises(InputError, match="is a pipe, socket or device"):
        source(root, "validation")


@pytest.mark.parametrize("name", ["imagenet-lt", "places-lt"])
def test_folder_has_to_be_given(name, monkeypatch):
    monkeypatch.setenv("RAYFS_DATA", "/")
    with pytest.raises(InputError, match=f"--benchmark {name} needs --data DIR with .*_LT_train.txt"):
        open_benchmark(name)
