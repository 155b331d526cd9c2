"""Far domains: which classes a name chooses, what a restricted benchmark holds, and the message of every wrong name."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pictures import encode, picture, write_folder

from rayfs.datasets import cifar100 as layouts
from rayfs.datasets import image_table as tables
from rayfs.datasets.class_groups import restrict, select_classes
from rayfs.datasets.episodes import SPLITS, Protocol, draw_episode
from rayfs.datasets.image_table import ImageTable, load_table
from rayfs.datasets.registry import PACKAGE, Benchmark, open_benchmark
from rayfs.datasets.sources import open_folder
from rayfs.errors import InputError

CLASSES = ("ant", "bee", "car", "dog", "elm")
GROUPS = {
    "insects": ("bee", "ant", "wasp"),
    "animals": ("ant", "bee", "dog", "wasp"),
    "dog": ("dog", "elm"),
    "fish": ("ray", "trout"),
}


def splits_file(name: str) -> dict:
    return json.loads((PACKAGE / "splits" / name).read_text())


def decode_split(benchmark: Benchmark, split: str, cache: Path) -> ImageTable:
    source = benchmark.source(split, cache)
    return load_table(source, cache, channels=benchmark.channels, image_size=benchmark.image_size)


@pytest.fixture
def pets(tmp_path: Path) -> Benchmark:
    """A folder benchmark: 4 classes to learn from, 3 to test on, 3 pictures of each."""
    splits = {"train": ["ant", "bee", "cat", "dog"], "val": ["eel", "fox", "gnu"], "test": ["hen", "jay", "koi"]}
    for part, names in splits.items():
        pictures = [(encode(picture(ord(name[0]) * 3 + i)), name) for name in names for i in range(3)]
        write_folder(tmp_path / "pets" / part, pictures)
    return open_benchmark("folder", str(tmp_path / "pets"), 20)


# Names


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["dog", "ant"], "ant dog"),
        (["ant", "ant", "bee"], "ant bee"),
        (["insects"], "ant bee"),
        (["insects", "car"], "ant bee car"),
        (["not:bee", "animals"], "ant dog"),
        (["animals", "not:insects", "elm"], "dog elm"),
        (["not:insects"], "car dog elm"),
        (["not:insects", "not:elm"], "car dog"),
        (["insects", "car", "not:elm"], "ant bee car"),
    ],
    ids=" ".join,
)
def test_names_choose_classes_in_the_order_there_is(names, chosen):
    assert select_classes(names, CLASSES, GROUPS, "--flag") == tuple(chosen.split())


def test_a_name_that_is_both_a_class_and_a_group_means_the_class():
    assert select_classes(["ant", "dog"], CLASSES, GROUPS, "--flag") == ("ant", "dog")
    assert select_classes(["not:dog"], CLASSES, GROUPS, "--flag") == ("ant", "bee", "car", "elm")


def test_without_groups_names_are_classes():
    assert select_classes(["car", "not:ant", "bee"], CLASSES, {}, "--flag") == ("bee", "car")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["insect", "car"],
            "--flag: 'insect' is no class or group here; close are insects; expected the name of a class (such as "
            "'ant'), of a group (insects, animals), or one of these after 'not:'",
        ),
        (["car", "not:dig"], "--flag: 'dig' is no class or group here; close are dog; expected the name"),
        (["zebra"], "--flag: 'zebra' is no class or group here; expected the name of a class"),
        (["Animals"], "--flag: 'Animals' is no class or group here; close are animals; expected"),
        (["not:"], "--flag: '' is no class or group here; expected"),
        (["fish", "car"], "--flag: 'fish' means none of the 5 classes of this split; expected the name of a class"),
        (["not:fish"], "--flag: 'fish' means none of the 5 classes of this split; expected"),
        (["wasp", "car"], "--flag: 'wasp' means none of the 5 classes of this split; expected"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_name_that_means_no_class_here_is_refused_with_what_there_is(names, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        select_classes(names, CLASSES, GROUPS, "--flag")


def test_without_groups_none_are_offered():
    expected = (
        r"^--flag: 'elk' is no class or group here; close are elm; expected the name of a class \(such as 'ant'\), "
        r"or one of these after 'not:'$"
    )
    with pytest.raises(InputError, match=expected):
        select_classes(["elk"], CLASSES, {}, "--flag")


def test_a_choice_of_everything_is_refused():
    expected = r"^--flag animals car elm keeps all 5 classes and changes nothing; drop it or name fewer$"
    with pytest.raises(InputError, match=expected):
        select_classes(["animals", "car", "elm"], CLASSES, GROUPS, "--flag")


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ("car", "1 of 5 classes ('car')"),
        ("insects not:ant", "1 of 5 classes ('bee')"),
        ("car not:car", "0 of 5 classes"),
    ],
)
def test_a_choice_of_fewer_than_2_classes_is_refused(names, kept):
    expected = f"^{re.escape(f'--flag {names} keeps {kept}, expected at least 2; name more')}$"
    with pytest.raises(InputError, match=expected):
        select_classes(names.split(), CLASSES, GROUPS, "--flag")


# Sources


def test_a_folder_source_of_some_classes_counts_and_reads_them_alone(tmp_path):
    images = [(encode(picture(i)), name) for i, name in enumerate(["ant", "bee", "cat", "ant"])]
    source = open_folder(write_folder(tmp_path, images))
    part = source.only(("cat", "ant"))
    assert (part.class_names, part.count()) == (("ant", "cat"), 3)
    assert [image.class_name for image in part.read()] == ["ant", "ant", "cat"]
    assert len({source.signature(), part.signature(), source.only(["bee"]).signature()}) == 3
    assert source.only(["ant", "bee", "cat"]).signature() == source.signature()


def test_a_parquet_source_of_some_classes_counts_and_reads_them_alone(tmp_path):
    source = open_benchmark("omniglot").source("validation", tmp_path)
    names = ("Tagalog/character01", "Tagalog/character17")
    part = source.only(names[::-1])
    assert (part.class_names, part.count()) == (names, 40)
    assert {image.class_name for image in part.read()} == set(names)
    assert part.signature() != source.signature()
    assert part.paths == source.paths


@pytest.mark.parametrize("name", ["omniglot", "folder"])
def test_a_source_refuses_classes_it_does_not_have(tmp_path, pets, name):
    source = (pets if name == "folder" else open_benchmark(name)).source("base", tmp_path)
    n = len(source.class_names)
    with pytest.raises(ValueError, match=rf"^expected some of the {n} classes of the source, got also \['yak'\]$"):
        source.only([source.class_names[0], "yak"])


# Groups of CIFAR-100


def test_cifar_superclasses_are_those_of_the_images(cifar100):
    pairs = set()
    for path in cifar100.rglob("*.parquet"):
        features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
        table = pq.read_table(path, columns=["coarse_label", "fine_label"])
        labels = set(zip(*(table[column].to_pylist() for column in table.column_names), strict=True))
        names = [features[column]["names"] for column in table.column_names]
        pairs |= {(names[0][coarse], names[1][fine]) for coarse, fine in labels}
    superclasses = splits_file("cifar100_superclasses.json")["superclasses"]
    assert pairs == {(coarse, fine) for coarse, members in superclasses.items() for fine in members}
    assert [len(members) for members in superclasses.values()] == [5] * 20


def test_each_cifar_class_is_in_one_superclass_and_each_superclass_in_one_group():
    content = splits_file("cifar100_superclasses.json")
    superclasses, groups = content["superclasses"], content["groups"]
    fine = sorted(name for members in superclasses.values() for name in members)
    splits = splits_file("cifar_fs.json")
    assert fine == sorted(name for split in SPLITS for name in splits[split])
    assert sorted(name for members in groups.values() for name in members) == sorted(superclasses)
    counts = {name: len(layouts.class_groups()[name]) for name in groups}
    assert counts == {"animals": 45, "people": 5, "plants": 15, "things": 25, "scenes": 10}


def test_no_cifar_name_means_two_things():
    content = splits_file("cifar100_superclasses.json")
    groups = layouts.class_groups()
    assert content["superclasses"].keys() & content["groups"].keys() == {"people"}
    assert content["groups"]["people"] == ["people"]
    assert groups["people"] == content["superclasses"]["people"] == ["baby", "boy", "girl", "man", "woman"]
    assert not groups.keys() & {name for members in groups.values() for name in members}


@pytest.mark.parametrize(
    ("file", "split", "counts"),
    [
        ("cifar_fs.json", "base", {"animals": 29, "people": 2, "plants": 11, "things": 14, "scenes": 8}),
        ("cifar_fs.json", "validation", {"animals": 10, "people": 0, "plants": 1, "things": 4, "scenes": 1}),
        ("cifar_fs.json", "test", {"animals": 6, "people": 3, "plants": 3, "things": 7, "scenes": 1}),
        ("fc100.json", "base", {"animals": 10, "people": 0, "plants": 15, "things": 25, "scenes": 10}),
        ("fc100.json", "validation", {"animals": 20, "people": 0, "plants": 0, "things": 0, "scenes": 0}),
        ("fc100.json", "test", {"animals": 15, "people": 5, "plants": 0, "things": 0, "scenes": 0}),
    ],
)
def test_groups_of_the_cifar_splits_have_these_numbers_of_classes(file, split, counts):
    names, groups = set(splits_file(file)[split]), layouts.class_groups()
    assert {group: len(names & set(groups[group])) for group in counts} == counts


# Restricted benchmarks


def assert_rows_of(table: ImageTable, whole: ImageTable, names: tuple[str, ...]) -> None:
    """Fail unless `table` holds the rows of the classes `names` of `whole`, in that order, and is another table."""
    rows = np.flatnonzero(np.isin(np.array(whole.class_names)[whole.labels], names))
    assert table.class_names == names
    assert np.array_equal(table.images, whole.images[rows])
    assert [table.class_names[c] for c in table.labels] == [whole.class_names[c] for c in whole.labels[rows]]
    assert table.fingerprint != whole.fingerprint


def assert_episodes_are_of(table: ImageTable, split: str) -> None:
    """Fail unless every class and every row of some episodes is of `table`, and each class comes up."""
    protocol = Protocol(n_way=2, n_shot=1, n_query=2, split=split)
    episodes = [draw_episode(table.offsets, table.fingerprint, protocol, i) for i in range(200)]
    assert {c for episode in episodes for c in episode.class_ids.tolist()} == set(range(len(table.class_names)))
    for episode in episodes:
        rows = np.concatenate([episode.support_ids, episode.query_ids], axis=1)
        assert np.array_equal(table.labels[rows], np.repeat(episode.class_ids[:, None], 3, axis=1))


def test_a_folder_is_restricted_to_classes(pets, tmp_path):
    part = restrict(pets, ["not:bee"], ["jay", "hen"], "test")
    for split, names in (("base", ("ant", "cat", "dog")), ("test", ("hen", "jay"))):
        table = decode_split(part, split, tmp_path)
        assert_rows_of(table, decode_split(pets, split, tmp_path), names)
        assert_episodes_are_of(table, split)
    assert part.source("validation", tmp_path) == pets.source("validation", tmp_path)


def test_validation_classes_are_chosen_when_they_are_the_novel_ones(pets, tmp_path):
    part = restrict(pets, [], ["not:gnu"], "validation")
    assert part.source("validation", tmp_path).class_names == ("eel", "fox")
    assert all(part.source(split, tmp_path) == pets.source(split, tmp_path) for split in ("base", "test"))


def test_no_names_change_nothing(pets):
    assert restrict(pets, [], [], "test") == pets
    assert restrict(pets, [], [], "base") == pets


def test_a_restricted_benchmark_can_be_sent_to_workers(pets, tmp_path):
    part = pickle.loads(pickle.dumps(restrict(pets, ["not:bee"], [], "test")))
    assert part.source("base", tmp_path).class_names == ("ant", "cat", "dog")


def test_all_but_the_images_stays_as_it_is(pets):
    part = restrict(pets, ["not:bee"], ["not:hen"], "test")
    same = ("name", "image_size", "mean", "std", "augmentation", "class_groups", "episodes", "published_errors")
    assert all(getattr(part, name) == getattr(pets, name) for name in same)


def test_whole_and_restricted_tables_share_a_cache(pets, tmp_path, monkeypatch):
    part = restrict(pets, ["not:bee"], [], "test")
    first = [decode_split(benchmark, "base", tmp_path).fingerprint for benchmark in (pets, part)]
    monkeypatch.setattr(tables, "decode", lambda *_, **__: pytest.fail("decoded again"))
    assert [decode_split(benchmark, "base", tmp_path).fingerprint for benchmark in (pets, part)] == first


def test_omniglot_is_restricted_to_alphabets_and_characters(split_table, session_cache):
    part = restrict(open_benchmark("omniglot"), ["Latin", "Greek", "not:Latin/character01"], ["Sanskrit"], "test")
    for split, n in (("base", 49), ("test", 42)):
        table, whole = decode_split(part, split, session_cache), split_table("omniglot", split)
        alphabets = ("Latin/", "Greek/") if split == "base" else ("Sanskrit/",)
        names = [name for name in whole.class_names if name.startswith(alphabets) and name != "Latin/character01"]
        assert len(names) == n
        assert_rows_of(table, whole, tuple(names))
    assert_episodes_are_of(table, "test")


def test_cifar_is_restricted_to_animals_and_things(split_table, cifar100, session_cache):
    part = restrict(open_benchmark("cifar-fs", str(cifar100)), ["animals"], ["things"], "test")
    groups = layouts.class_groups()
    base = part.source("base", session_cache)
    assert (len(base.class_names), base.count()) == (29, 17_400)
    assert set(base.class_names) <= set(groups["animals"])
    table, whole = decode_split(part, "test", session_cache), split_table("cifar-fs", "test")
    names = tuple(name for name in whole.class_names if name in groups["things"])
    assert len(names) == 7
    assert_rows_of(table, whole, names)
    assert_episodes_are_of(table, "test")


def test_restricted_cifar_still_needs_all_shards(cifar100, tmp_path):
    shard = min(cifar100.rglob("test*.parquet"))
    (tmp_path / shard.name).symlink_to(shard)
    part = restrict(open_benchmark("cifar-fs", str(tmp_path)), [], ["things"], "test")
    with pytest.raises(InputError, match=r"2000 images of these 20 classes, expected 12000 \(600 a class"):
        part.source("test", tmp_path)


# Wrong restrictions


def test_wrong_names_are_refused_when_the_split_is_opened_and_not_before(pets, tmp_path):
    part = restrict(pets, ["hen"], ["hen", "jai"], "test")
    assert part.source("validation", tmp_path).class_names == ("eel", "fox", "gnu")
    with pytest.raises(InputError, match=r"^--base-classes: 'hen' is no class or group here"):
        part.source("base", tmp_path)
    with pytest.raises(InputError, match=r"^--novel-classes: 'jai' is no class or group here; close are jay; expected"):
        part.source("test", tmp_path)


def test_an_alphabet_of_another_split_is_refused(tmp_path):
    part = restrict(open_benchmark("omniglot"), [], ["Latin"], "test")
    expected = (
        r"^--novel-classes: 'Latin' means none of the 89 classes of this split; "
        r".* of a group \(Japanese_\(katakana\), Sanskrit\)"
    )
    with pytest.raises(InputError, match=expected):
        part.source("test", tmp_path)


def test_classes_with_official_episodes_cannot_be_chosen():
    expected = (
        r"^--novel-classes is run01/class01 not:Latin, but split 'test' of benchmark 'omniglot-one-shot' has official "
        r"episodes of all its classes; drop the flag or use another split$"
    )
    with pytest.raises(InputError, match=expected):
        restrict(open_benchmark("omniglot-one-shot"), [], ["run01/class01", "not:Latin"], "test")


def test_base_classes_can_be_chosen_beside_official_episodes(tmp_path):
    whole = open_benchmark("omniglot-one-shot")
    part = restrict(whole, ["Latin"], [], "test")
    assert len(part.source("base", tmp_path).class_names) == 26
    assert part.source("test", tmp_path) == whole.source("test", tmp_path)
    assert restrict(whole, [], ["not:Tagalog/character01"], "validation").source("validation", tmp_path).count() == 320


def test_novel_classes_of_the_base_split_are_refused(pets):
    expected = r"^--novel-classes chooses among validation or test classes, not of split 'base'; use --base-classes$"
    with pytest.raises(InputError, match=expected):
        restrict(pets, [], ["ant", "bee"], "base")
