"""CIFAR-100-LT: published counts, the same images from every layout, no picture in two splits, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pictures import encode, picture, write_shard

from rayfs.datasets import cifar100 as layouts
from rayfs.datasets import long_tail
from rayfs.datasets.augmentation import Augmentation
from rayfs.datasets.image_table import ImageTable, load_table
from rayfs.datasets.long_tail import open_cifar100_lt, training_counts
from rayfs.datasets.registry import open_benchmark, refuse_shared_classes
from rayfs.errors import InputError

NAMES = ("apple", "bee", "cattle", "dolphin")
N_TRAIN, N_TEST = 60, 8


@pytest.mark.parametrize(
    ("imbalance", "total", "many", "few"), [(100, 10_847, 35, 31), (50, 12_608, 41, 19), (10, 19_573, 70, 0)]
)
def test_counts_are_those_of_ldam(imbalance, total, many, few):
    counts = training_counts(imbalance)
    assert (counts[0], len(counts), sum(counts)) == (500, 100, total)
    assert (sum(n >= 100 for n in counts), sum(n <= 20 for n in counts)) == (many, few)
    assert counts == sorted(counts, reverse=True)


def test_counts_by_hand():
    """100^(-1/2) = 1/10: three classes of 50, 5 and, by rounding down from 0.5, 0 images."""
    assert training_counts(100, n_classes=3, largest=50) == [50, 5, 0]
    assert training_counts(100)[-1] == 5


# Small pictures in the layout of the real ones


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let CIFAR-100 be 4 classes of 60 training and 8 test images."""
    monkeypatch.setattr(layouts, "N_CLASSES", len(NAMES))
    monkeypatch.setattr(layouts, "PART_IMAGES_PER_CLASS", {"train": N_TRAIN, "test": N_TEST})
    long_tail._keyed.cache_clear()
    yield
    long_tail._keyed.cache_clear()


def train_rows(order_seed: int = 0) -> list[tuple[bytes, int]]:
    rows = [(encode(picture(1000 * c + i, 4, 4)), c) for c in range(len(NAMES)) for i in range(N_TRAIN)]
    return [rows[i] for i in np.random.Generator(np.random.Philox(order_seed)).permutation(len(rows))]


def write(folder: Path, rows: list[tuple[bytes, int]] | None = None, n_shards: int = 1) -> Path:
    rows = train_rows() if rows is None else rows
    for shard in range(n_shards):
        write_shard(folder / f"train-{shard}.parquet", rows[shard::n_shards], NAMES, label="fine_label")
    test = [(encode(picture(9000 + 100 * c + i, 4, 4)), c) for c in range(len(NAMES)) for i in range(N_TEST)]
    write_shard(folder / "test-0.parquet", test, NAMES, label="fine_label")
    return folder


def table(folder: Path, split: str, imbalance: int = 10) -> ImageTable:
    cache = folder.parent / "cache"
    source = open_cifar100_lt(folder, imbalance, split, cache)
    return load_table(source, cache, channels=3, image_size=4)


def pixels(table: ImageTable) -> set[bytes]:
    return {image.tobytes() for image in table.images}


@pytest.mark.usefixtures("small")
def test_splits_have_their_counts_and_share_no_picture(tmp_path):
    folder = write(tmp_path / "data")
    base, validation, test = (table(folder, split) for split in ("base", "validation", "test"))
    assert base.class_counts().tolist() == [60, 27, 12, 6] == training_counts(10, 4, 60)
    assert validation.class_names == NAMES[1:], "all images of the first class are training images"
    assert validation.class_counts().tolist() == [33, 48, 50]
    assert (test.class_names, test.class_counts().tolist()) == (NAMES, [8] * 4)
    assert not pixels(base) & pixels(validation) and not pixels(test) & (pixels(base) | pixels(validation))


@pytest.mark.usefixtures("small")
def test_same_images_from_any_order_and_any_number_of_shards(tmp_path):
    folders = [write(tmp_path / name / "data", train_rows(seed), n) for name, seed, n in (("a", 0, 1), ("b", 1, 3))]
    for split in ("base", "validation"):
        first, second = (table(folder, split).fingerprint for folder in folders)
        assert first == second


@pytest.mark.usefixtures("small")
def test_a_milder_long_tail_has_all_images_of_a_stronger_one(tmp_path):
    folder = write(tmp_path / "data")
    strong, mild = (pixels(table(folder, "base", imbalance)) for imbalance in (50, 10))
    assert strong < mild


@pytest.mark.usefixtures("small")
def test_chosen_images_are_not_the_first_of_the_file_nor_of_the_keys(tmp_path):
    rows = train_rows()
    folder = write(tmp_path / "data", rows)
    smallest = [image.tobytes() for image in table(folder, "base").images[-6:]]
    own = [picture(3000 + i, 4, 4).tobytes() for i in range(N_TRAIN)]
    in_file = [own.index(image) for image in smallest]
    assert sorted(in_file) != list(range(6))
    every = table(folder, "base", imbalance=1)
    by_key = [image.tobytes() for image in every.images[-N_TRAIN:]]
    assert sorted(by_key.index(image) for image in smallest) != list(range(6))


@pytest.mark.usefixtures("small")
def test_a_picture_that_is_there_twice_is_not_trained_and_validated_on(tmp_path):
    """Every picture of a class twice: 27 training images of bee, and no validation image equal to one of them."""
    rows = [(encode(picture(1000 * c + i // 2, 4, 4)), c) for c in range(len(NAMES)) for i in range(N_TRAIN)]
    folder = write(tmp_path / "data", rows)
    base, validation = table(folder, "base"), table(folder, "validation")
    assert base.class_counts().tolist() == [60, 27, 12, 6]
    assert len(validation) < 33 + 48 + 50
    assert not pixels(base) & pixels(validation)


@pytest.mark.usefixtures("small")
def test_chosen_images_are_decoded_once_and_then_found_in_the_cache(tmp_path, monkeypatch):
    folder = write(tmp_path / "data")
    before = table(folder, "base").fingerprint
    monkeypatch.setattr(long_tail, "_choose", None)
    assert table(folder, "base").fingerprint == before


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("part", "split"), [("train", "base"), ("test", "test")])
def test_a_part_with_other_counts_is_refused(tmp_path, part, split):
    folder = write(tmp_path / "data", train_rows()[:-1] if part == "train" else None)
    if part == "test":
        (folder / "test-0.parquet").rename(folder / "test-1.parquet")
        write_shard(folder / "test-0.parquet", [(encode(picture(1, 4, 4)), 0)], NAMES, label="fine_label")
    with pytest.raises(InputError, match=rf"the {part} images are \d+ of 4 classes .* expected 4 classes of \d+"):
        open_cifar100_lt(folder, 10, split, tmp_path)


@pytest.mark.usefixtures("small")
def test_shards_that_say_neither_train_nor_test_are_refused(tmp_path):
    write_shard(tmp_path / "part-0.parquet", train_rows()[:4], NAMES, label="fine_label")
    with pytest.raises(InputError, match="none whose name, or whose folder's, begins with 'train'"):
        open_cifar100_lt(tmp_path, 10, "base", tmp_path)


@pytest.mark.usefixtures("small")
def test_shards_in_folders_called_train_and_test_are_told_apart(tmp_path):
    folder = write(tmp_path / "data")
    for part in ("train", "test"):
        (folder / part).mkdir()
        (folder / f"{part}-0.parquet").rename(folder / part / "0000.parquet")
    assert table(folder, "base").class_counts().tolist() == [60, 27, 12, 6]
    assert len(table(folder, "test")) == 32


# The benchmarks


@pytest.mark.parametrize(("name", "counts"), [("cifar100-lt", 10_847), ("cifar100-lt-10", 19_573)])
def test_benchmark_says_that_splits_share_their_classes(tmp_path, name, counts):
    benchmark = open_benchmark(name, str(tmp_path))
    assert (benchmark.name, benchmark.image_size, benchmark.shared_classes) == (name, 32, True)
    assert benchmark.augmentation == Augmentation(crop_padding=4, flip=True)
    with pytest.raises(InputError, match=f"--benchmark {name} has the same classes in every split.*long_tail_eval.py"):
        refuse_shared_classes(benchmark)
    refuse_shared_classes(open_benchmark("cifar-fs", str(tmp_path)))


def test_real_images(cifar100, session_cache):
    """10,847 training images; the second class lacks one validation image, a picture that is in training, too."""
    benchmark = open_benchmark("cifar100-lt", str(cifar100))
    counts = {split: benchmark.source(split, session_cache).class_counts() for split in benchmark.sources}
    assert list(counts["base"].values()) == training_counts(100) and sum(counts["base"].values()) == 10_847
    assert {"apple": 0, **counts["validation"]} == {
        **dict.fromkeys(counts["base"], 50), "apple": 0, "aquarium_fish": 22, "baby": 45,
    }  # fmt: skip
    assert counts["test"] == dict.fromkeys(counts["base"], 100)
