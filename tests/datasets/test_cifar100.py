"""CIFAR-100: pooled to 600 images a class from either layout, and refused when a part is missing or was changed."""

import hashlib
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pictures import encode, picture, write_shard
from torchvision.datasets import CIFAR100

from rayfs.datasets import cifar100 as layouts
from rayfs.datasets.cifar100 import open_source
from rayfs.datasets.image_table import load_table
from rayfs.datasets.images import decode
from rayfs.datasets.registry import open_benchmark
from rayfs.datasets.sources import open_parquet
from rayfs.errors import InputError

CLASSES = ("apple", "bee", "cattle")


def small_shards(folder: Path, counts: dict[str, int]) -> None:
    """Write the given number of copies of one small picture a class, spread over a train and a test shard."""
    rows = [(encode(picture(i, 32, 32)), i) for i, name in enumerate(counts) for _ in range(counts[name])]
    write_shard(folder / "train.parquet", rows[::2], list(counts), label="fine_label")
    write_shard(folder / "test.parquet", rows[1::2], list(counts), label="fine_label")


# Real images


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar-fs", {"base": (64, 38_400), "validation": (16, 9_600), "test": (20, 12_000)}),
        ("fc100", {"base": (60, 36_000), "validation": (20, 12_000), "test": (20, 12_000)}),
    ],
)
def test_splits_are_disjoint_and_have_600_images_of_each_class(cifar100, tmp_path, name, expected):
    benchmark = open_benchmark(name, str(cifar100))
    sources = {split: benchmark.source(split, tmp_path) for split in expected}
    assert {split: (len(source.class_names), source.count()) for split, source in sources.items()} == expected
    assert all(set(source.class_counts().values()) == {600} for source in sources.values())
    assert len({name for source in sources.values() for name in source.class_names}) == 100


def test_fc100_keeps_superclasses_whole_and_apart(cifar100):
    """FC100 splits by superclass: 12 for base, 4 for validation, 4 for test, of 5 classes each."""
    shard = min(cifar100.rglob("test*.parquet"))
    table = pq.read_table(shard, columns=["fine_label", "coarse_label"])
    names = dict(open_parquet([shard], "fine_label", lambda name: True).classes)
    pairs = set(zip(table["fine_label"].to_pylist(), table["coarse_label"].to_pylist(), strict=True))
    coarse = {names[fine]: superclass for fine, superclass in pairs}
    benchmark = open_benchmark("fc100", str(cifar100))
    superclasses = [
        {coarse[name] for name in benchmark.source(split, shard.parent).class_names}
        for split in ("base", "validation", "test")
    ]
    assert [len(group) for group in superclasses] == [12, 4, 4]
    assert len(set.union(*superclasses)) == 20


def test_table_of_a_split_has_600_consecutive_rows_a_class(split_table):
    table = split_table("cifar-fs", "test")
    assert table.images.shape == (12_000, 32, 32, 3)
    assert table.class_counts().tolist() == [600] * 20
    assert len({image.tobytes() for image in table.images}) > 11_900  # a few pictures of CIFAR-100 are there twice


@pytest.mark.parametrize(
    ("shard", "left", "baby"),
    [("train-00002-of-00005.parquet", 10_054, 495), ("test-00000-of-00001.parquet", 10_000, 500)],
)
def test_a_missing_shard_is_refused_with_the_numbers(cifar100, tmp_path, shard, left, baby):
    for path in cifar100.rglob("*.parquet"):
        if path.name != shard:
            (tmp_path / path.name).symlink_to(path)
    expected = rf"has {left} images of these 20 classes, expected 12000 \(600 a class, but 'baby' has {baby}\)"
    with pytest.raises(InputError, match=expected):
        open_benchmark("cifar-fs", str(tmp_path)).source("test", tmp_path)


# Parquet


def test_train_and_test_shards_are_pooled_also_from_folders_of_their_own(tmp_path):
    small_shards(tmp_path / "data", dict.fromkeys(CLASSES, 600))
    (tmp_path / "data" / "deep").mkdir()
    (tmp_path / "data" / "test.parquet").rename(tmp_path / "data" / "deep" / "test.parquet")
    source = open_source(tmp_path / "data", CLASSES[:2], tmp_path / "cache")
    assert source.class_counts() == {"apple": 600, "bee": 600}


def test_a_folder_of_neither_layout_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds neither Parquet files .* nor torchvision's 'cifar-100-python'"):
        open_source(tmp_path, CLASSES, tmp_path)


def test_a_missing_class_is_named(tmp_path):
    small_shards(tmp_path, {"apple": 600})
    with pytest.raises(InputError, match=rf"^{tmp_path} lacks 2 of 3 classes, among them 'bee'$"):
        open_source(tmp_path, CLASSES, tmp_path)


def test_a_class_with_too_many_images_is_refused_even_if_the_sum_is_right(tmp_path):
    small_shards(tmp_path, {"apple": 600, "bee": 601, "cattle": 599})
    expected = (
        r"has 1800 images of these 3 classes, expected 1800 \(600 a class, but 'bee' has 601\).*each of them there"
    )
    with pytest.raises(InputError, match=expected):
        open_source(tmp_path, CLASSES, tmp_path)


# torchvision's folder

Pickles = dict[str, dict]


def torchvision_folder(root: Path, pickles: Pickles) -> dict[str, str]:
    """Write the files of torchvision's CIFAR-100; returns the MD5 of each."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    checksums = {}
    for name, content in pickles.items():
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        checksums[name] = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return checksums


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Return a function that makes torchvision take the given MD5 for the published ones.

    The original pickles may not be in this repository and 60,000 images take too long, so the tests write small ones;
    torchvision's own check of them then runs as it is.
    """

    def trust_checksums(checksums: dict[str, str]) -> None:
        monkeypatch.setattr(CIFAR100, "train_list", [["train", checksums["train"]]])
        monkeypatch.setattr(CIFAR100, "test_list", [["test", checksums["test"]]])
        monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": checksums["meta"]})

    return trust_checksums


def as_pickles(images: np.ndarray, labels: Sequence[int], names: Sequence[str]) -> Pickles:
    """Arrange (n, 32, 32, 3) images as the original pickles: rows of 3,072 values, channels first; 5/6 train."""
    rows, n_train = images.transpose(0, 3, 1, 2).reshape(len(images), -1), len(images) * 5 // 6
    return {
        "train": {"data": rows[:n_train], "fine_labels": list(labels[:n_train])},
        "test": {"data": rows[n_train:], "fine_labels": list(labels[n_train:])},
        "meta": {"fine_label_names": list(names)},
    }


def noise_pickles() -> Pickles:
    images = picture(0, 1_200 * 32, 32).reshape(1_200, 32, 32, 3)
    return as_pickles(images, [i % 2 for i in range(1_200)], ["bee", "apple"])


def test_torchvisions_folder_gives_the_same_table_as_parquet(cifar100, tmp_path, trust):
    names = ("bed", "willow_tree")
    parquet = open_source(cifar100, names, tmp_path)
    table = load_table(parquet, tmp_path, channels=3, image_size=32)
    arrived = [
        (decode(image.encoded, channels=3, image_size=32, where="").pixels, names[::-1].index(image.class_name))
        for image in parquet.read()
    ]
    pickles = as_pickles(np.stack([pixels for pixels, _ in arrived]), [label for _, label in arrived], names[::-1])
    trust(torchvision_folder(tmp_path / "data", pickles))
    converted = load_table(
        open_source(tmp_path / "data", names, tmp_path / "cache"), tmp_path / "cache", channels=3, image_size=32
    )
    assert converted.fingerprint == table.fingerprint
    assert converted.class_names == table.class_names == names
    assert np.array_equal(converted.images, table.images)


def test_torchvisions_folder_is_converted_once(tmp_path, trust, monkeypatch):
    trust(torchvision_folder(tmp_path / "data", noise_pickles()))
    first = open_source(tmp_path / "data", ["apple", "bee"], tmp_path / "cache")
    monkeypatch.setattr(layouts, "_png", lambda pixels: pytest.fail("converted again"))
    assert open_source(tmp_path / "data", ["apple", "bee"], tmp_path / "cache").paths == first.paths
    assert [path.suffix for path in (tmp_path / "cache" / "converted").iterdir()] == [".parquet"]


class Bomb:
    """Something that would be seen if its pickle were loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_a_changed_folder_is_refused_before_anything_is_unpickled(tmp_path, trust, file):
    pickles = noise_pickles()
    trust(torchvision_folder(tmp_path / "original", pickles))
    torchvision_folder(tmp_path / "data", {**pickles, file: {**pickles[file], "bomb": Bomb(tmp_path / "exploded")}})
    with pytest.raises(InputError, match=rf"^{tmp_path}/data: torchvision refuses this CIFAR-100 folder .*download it"):
        open_source(tmp_path / "data", ["apple", "bee"], tmp_path / "cache")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_a_folder_that_lacks_a_file_is_refused(tmp_path, trust, file):
    trust(torchvision_folder(tmp_path / "data", noise_pickles()))
    (tmp_path / "data" / "cifar-100-python" / file).unlink()
    with pytest.raises(InputError, match="torchvision refuses this CIFAR-100 folder"):
        open_source(tmp_path / "data", ["apple", "bee"], tmp_path / "cache")


def test_a_folder_that_changes_is_converted_again(tmp_path, trust):
    trust(torchvision_folder(tmp_path / "data", noise_pickles()))
    first = open_source(tmp_path / "data", ["apple", "bee"], tmp_path / "cache")
    shutil.rmtree(tmp_path / "data")
    changed = noise_pickles()
    changed["train"]["data"][0, 0] ^= 1
    trust(torchvision_folder(tmp_path / "data", changed))
    second = open_source(tmp_path / "data", ["apple", "bee"], tmp_path / "cache")
    assert second.paths != first.paths
