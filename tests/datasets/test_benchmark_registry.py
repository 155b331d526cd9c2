"""Benchmarks by name: what each holds, and the message of every wrong flag."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pictures import encode, picture, write_folder
from PIL import Image

from rayfs.datasets.augmentation import Augmentation
from rayfs.datasets.episode_file import read_episode_file
from rayfs.datasets.episodes import SPLITS, Protocol
from rayfs.datasets.image_table import ImageTable, load_table
from rayfs.datasets.registry import (
    BENCHMARKS,
    CIFAR_MEAN,
    CIFAR_STD,
    NATURAL_MEAN,
    NATURAL_STD,
    OMNIGLOT_AUGMENTATION,
    OMNIGLOT_ONE_SHOT_ERRORS,
    open_benchmark,
    photo_augmentation,
)
from rayfs.errors import InputError

ONE_SHOT = Protocol(n_way=20, n_shot=1, n_query=1, split="test", seed=0)


def folder_dataset(root: Path, splits: dict[str, list[str]]) -> str:
    for i, (split, names) in enumerate(splits.items()):
        write_folder(root / split, [(encode(picture(10 * i + j)), name) for j, name in enumerate(names)])
    return str(root)


def test_registry_names_every_benchmark():
    assert list(BENCHMARKS) == [
        "omniglot", "omniglot-one-shot", "cifar-fs", "fc100", "cifar100-lt", "cifar100-lt-50", "cifar100-lt-10",
        "imagenet-lt", "places-lt", "folder",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "size", "mean", "std", "augmentation"),
    [
        ("omniglot", 28, (0.92,), (0.2,), OMNIGLOT_AUGMENTATION),
        ("omniglot-one-shot", 28, (0.92,), (0.2,), OMNIGLOT_AUGMENTATION),
        ("cifar-fs", 32, CIFAR_MEAN, CIFAR_STD, Augmentation(crop_padding=4, jitter=0.4, flip=True)),
        ("fc100", 32, CIFAR_MEAN, CIFAR_STD, Augmentation(crop_padding=4, jitter=0.4, flip=True)),
        ("folder", 84, NATURAL_MEAN, NATURAL_STD, Augmentation(crop_padding=8, jitter=0.4, flip=True)),
    ],
)
def test_benchmark_describes_its_images(tmp_path, name, size, mean, std, augmentation):
    benchmark = open_benchmark(name, None if name.startswith("omniglot") else str(tmp_path))
    assert (benchmark.name, benchmark.image_size, benchmark.channels) == (name, size, len(mean))
    assert (benchmark.mean, benchmark.std, benchmark.augmentation) == (mean, std, augmentation)
    assert set(benchmark.sources) == set(SPLITS)


@pytest.mark.parametrize(("size", "padding"), [(16, 4), (32, 4), (48, 4), (49, 8), (84, 8), (168, 16), (224, 21)])
def test_crop_padding_of_photographs_grows_with_their_size(size, padding):
    assert photo_augmentation(size) == Augmentation(crop_padding=padding, jitter=0.4, flip=True)


# Omniglot


def test_omniglot_has_20_drawings_of_each_character_and_no_alphabet_twice(split_table):
    tables = {split: split_table("omniglot", split) for split in SPLITS}
    assert {split: len(table.class_names) for split, table in tables.items()} == {
        "base": 136,
        "validation": 17,
        "test": 89,
    }
    assert all(set(table.class_counts().tolist()) == {20} for table in tables.values())
    assert all(table.images.shape == (len(table), 28, 28, 1) for table in tables.values())
    alphabets = {split: {name.split("/")[0] for name in table.class_names} for split, table in tables.items()}
    assert alphabets == {
        "base": {"Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"},
        "validation": {"Tagalog"},
        "test": {"Japanese_(katakana)", "Sanskrit"},
    }


def test_omniglot_mean_and_deviation_are_about_those_of_its_base_images(split_table):
    values = np.array(split_table("omniglot", "base").images) / 255.0
    benchmark = open_benchmark("omniglot")
    assert values.mean() == pytest.approx(benchmark.mean[0], abs=0.01)
    assert values.std() == pytest.approx(benchmark.std[0], abs=0.02)


def test_cifar_mean_and_deviation_are_about_those_of_its_images(split_table):
    values = np.array(split_table("cifar-fs", "test").images[::4]) / 255.0
    assert values.mean((0, 1, 2)) == pytest.approx(CIFAR_MEAN, abs=0.05)
    assert values.std((0, 1, 2)) == pytest.approx(CIFAR_STD, abs=0.03)


@pytest.mark.parametrize("split", ["base", "validation"])
def test_omniglot_one_shot_learns_from_the_same_characters_as_omniglot(tmp_path, split):
    plain, one_shot = (open_benchmark(name).source(split, tmp_path) for name in ("omniglot", "omniglot-one-shot"))
    assert plain == one_shot


def official_episodes(table: ImageTable):
    path = open_benchmark("omniglot-one-shot").episodes["test"]
    return read_episode_file(path, ONE_SHOT, table.fingerprint, len(table))


def test_omniglot_one_shot_is_20_runs_of_20_trials(split_table):
    table = split_table("omniglot-one-shot", "test")
    episodes = official_episodes(table)
    assert [episode.index for episode in episodes] == list(range(20))
    assert sum(episode.query_ids.size for episode in episodes) == 400
    assert len(table) == 800
    assert table.class_counts().tolist() == [2] * 400
    assert set(open_benchmark("omniglot-one-shot").published_errors) == set(OMNIGLOT_ONE_SHOT_ERRORS)


def test_each_one_shot_run_uses_its_own_20_classes_and_both_images_of_each(split_table):
    table = split_table("omniglot-one-shot", "test")
    for episode in official_episodes(table):
        names = [table.class_names[class_id] for class_id in episode.class_ids]
        assert sorted(names) == [f"run{episode.index + 1:02d}/class{i:02d}" for i in range(1, 21)]
        rows = np.sort(np.concatenate([episode.support_ids, episode.query_ids], axis=1), axis=1)
        assert np.array_equal(
            rows, np.stack([table.offsets[episode.class_ids], table.offsets[episode.class_ids] + 1], 1)
        )


def test_one_shot_pairs_are_those_of_the_official_archive(split_table, real_data):
    table = split_table("omniglot-one-shot", "test")
    archive = real_data("omniglot") / "one_shot_runs.zip"

    def pixels(data: bytes) -> np.ndarray:
        """Scale a 105 x 105 drawing to 28 x 28, as the package does, by Pillow alone."""
        grey = Image.open(io.BytesIO(data)).convert("L")
        return np.asarray(grey.resize((28, 28), Image.Resampling.BILINEAR))

    with zipfile.ZipFile(archive) as files:
        labels = {name.split("/")[-2]: name for name in files.namelist() if name.endswith("class_labels.txt")}
        for episode in official_episodes(table):
            label_file = labels[f"run{episode.index + 1:02d}"]
            root = label_file.split("run")[0]
            lines = files.read(label_file).decode().splitlines()
            expected = {(pixels(files.read(root + b)).tobytes(), pixels(files.read(root + a)).tobytes())
                        for a, b in (line.split() for line in lines)}  # fmt: skip
            support, query = (table.images[rows[:, 0]] for rows in (episode.support_ids, episode.query_ids))
            assert {(a.tobytes(), b.tobytes()) for a, b in zip(support, query, strict=True)} == expected


# Folders


def test_folder_reads_train_val_and_test(tmp_path):
    splits = {"train": ["ant", "bee", "cat"], "val": ["dog"], "test": ["eel", "fox"]}
    benchmark = open_benchmark("folder", folder_dataset(tmp_path, splits), 20)
    names = {split: benchmark.source(split, tmp_path).class_names for split in SPLITS}
    assert names == {"base": ("ant", "bee", "cat"), "validation": ("dog",), "test": ("eel", "fox")}
    table = load_table(benchmark.source("test", tmp_path), tmp_path, channels=3, image_size=benchmark.image_size)
    assert np.array_equal(table.images, np.stack([picture(20), picture(21)]))


def test_a_split_nobody_asks_for_may_be_missing(tmp_path):
    benchmark = open_benchmark("folder", folder_dataset(tmp_path, {"train": ["ant"], "test": ["bee"]}))
    assert benchmark.source("base", tmp_path).class_names == ("ant",)
    with pytest.raises(
        InputError, match=rf"^{tmp_path}/val is not a directory; expected one folder of images per class"
    ):
        benchmark.source("validation", tmp_path)


@pytest.mark.parametrize(("split", "other"), [("base", "test"), ("test", "train")])
def test_classes_that_two_splits_share_are_refused(tmp_path, split, other):
    data = folder_dataset(tmp_path, {"train": ["ant", "bee", "cat"], "val": ["dog"], "test": ["bee", "cat"]})
    mine = {"base": "train", "test": "test"}[split]
    expected = (
        rf"^class 'bee' is in both {tmp_path}/{mine} and {tmp_path}/{other} \(2 shared classes\); .*rename or move"
    )
    with pytest.raises(InputError, match=expected):
        open_benchmark("folder", data).source(split, tmp_path)


# Flags


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"^--benchmark is 'omniglott'; expected one of omniglot, .*, folder$"):
        open_benchmark("omniglott")


@pytest.mark.parametrize("size", [-1, 0, 15, 513])
def test_impossible_image_sizes_are_refused(size):
    with pytest.raises(InputError, match=rf"^--image-size is {size}; expected 16 to 512 pixels$"):
        open_benchmark("omniglot", image_size=size)


def test_image_size_is_taken_over(tmp_path):
    assert open_benchmark("omniglot", image_size=84).image_size == 84
    assert open_benchmark("cifar-fs", str(tmp_path), image_size=84).augmentation.crop_padding == 8


def test_one_shot_runs_have_one_size():
    assert open_benchmark("omniglot-one-shot", image_size=28).image_size == 28
    with pytest.raises(InputError, match=r"^--image-size is 32; the official runs are addressed at 28 pixels: drop"):
        open_benchmark("omniglot-one-shot", image_size=32)


@pytest.mark.parametrize("name", ["omniglot", "omniglot-one-shot"])
def test_embedded_benchmarks_take_no_data(name):
    with pytest.raises(
        InputError, match=rf"^--benchmark {name} is embedded in the package and takes no --data \(got 'x'"
    ):
        open_benchmark(name, "x")


@pytest.mark.parametrize("name", ["cifar-fs", "fc100"])
def test_cifar_needs_a_folder(name, monkeypatch):
    monkeypatch.delenv("RAYFS_DATA", raising=False)
    with pytest.raises(InputError, match=rf"^--benchmark {name} needs --data DIR \(or RAYFS_DATA set .*'cifar100'\)$"):
        open_benchmark(name)


def test_cifar_is_found_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYFS_DATA", str(tmp_path))
    with pytest.raises(
        InputError, match=rf"^RAYFS_DATA is {tmp_path}, .*{tmp_path}/cifar100: there is no such folder; pa"
    ):
        open_benchmark("cifar-fs")
    (tmp_path / "cifar100").mkdir()
    with pytest.raises(InputError, match=rf"^{tmp_path}/cifar100 holds neither Parquet files"):
        open_benchmark("cifar-fs").source("test", tmp_path)


def test_folder_needs_data_whatever_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYFS_DATA", str(tmp_path))
    with pytest.raises(
        InputError, match=r"^--benchmark folder needs --data DIR with class folders in DIR/train, DIR/val"
    ):
        open_benchmark("folder")


@pytest.mark.parametrize("name", ["cifar-fs", "fc100", "folder"])
def test_a_folder_that_does_not_exist_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=rf"^--data {tmp_path}/none: there is no such folder; pass --data DIR"):
        open_benchmark(name, f"{tmp_path}/none")
