"""Parquet shards and episode files that are broken or made to harm: read exactly, or refused with one message."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corruption import FUZZ, corruptions, within_seconds
from hypothesis import given
from pictures import encode, picture, write_shard

from rayfs.datasets.cifar100 import open_source
from rayfs.datasets.episode_file import decode_episode_file, encode_episode_file, read_episode_file, write_episode_file
from rayfs.datasets.episodes import Episode, Protocol, draw_episode
from rayfs.datasets.sources import open_parquet
from rayfs.errors import InputError

NAMES = ["ant", "bee", "cat"]
PNGS = [encode(picture(seed, 4, 4)) for seed in range(3)]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def contents(path: Path) -> list[tuple[str, bytes]]:
    return [(image.class_name, image.encoded) for image in open_parquet([path], "label", lambda name: True).read()]


def shard(
    path: Path,
    images: Any = None,
    labels: Any = None,
    names: Any = NAMES,
    columns: tuple[str, ...] = ("image", "label"),
    **options: Any,
) -> Path:
    """Write a shard with some of its parts replaced."""
    images = pa.array([{"bytes": data, "path": None} for data in PNGS], IMAGE) if images is None else images
    labels = pa.array([0, 1, 2]) if labels is None else labels
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    table = pa.Table.from_arrays([images, labels], names=list(columns))
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), path, **options)
    return path


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as error:
        within_seconds(call)
    return str(error.value)


def structs(kind: pa.DataType, value: Any) -> pa.Array:
    return pa.array([{"bytes": value}] * 3, pa.struct([("bytes", kind)]))


EXPECTED = "expected an image column (struct with 'bytes') and a column 'label', got columns"
DISTINCT = "expected distinct texts"

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no image column": ({"images": pa.array(PNGS)}, f": {EXPECTED} image, label"),
    "an image struct without bytes": (
        {"images": pa.array([{"path": "../../etc/passwd"}] * 3)},
        f": {EXPECTED} image, label",
    ),
    "no label column": ({"columns": ("image", "fine")}, f": {EXPECTED} image, fine"),
    "two label columns": ({"images": pa.array([0, 1, 2]), "columns": ("label", "label")}, f": {EXPECTED} label, label"),
    "bytes as text": (
        {"images": structs(pa.string(), "png")},
        ": the bytes of column 'image' are of type string, expected binary",
    ),
    "bytes as numbers": (
        {"images": structs(pa.int64(), 3)},
        ": the bytes of column 'image' are of type int64, expected binary",
    ),
    "bytes as lists": (
        {"images": structs(pa.list_(pa.uint8()), [137, 80])},
        ": the bytes of column 'image' are of type list<element: uint8>, expected binary",
    ),
    "labels as text": (
        {"labels": pa.array(NAMES)},
        ": column 'label' is of type string, expected integers that number the classes",
    ),
    "labels as fractions": (
        {"labels": pa.array([0.0, 1, 2])},
        ": column 'label' is of type double, expected integers that number the classes",
    ),
    "labels as truth": (
        {"labels": pa.array([True, False, True])},
        ": column 'label' is of type bool, expected integers that number the classes",
    ),
    "labels as lists": (
        {"labels": pa.array([[0], [1], [2]])},
        ": column 'label' is of type list<element: int64>, expected integers that number the classes",
    ),
    **{
        f"label {label}": (
            {"labels": pa.array([0, 1, label])},
            f": column 'label' holds the label {label}, but has 3 class names (labels 0 to 2, -1 or null for none); "
            "correct the labels or the names",
        )
        for label in (3, 255, 2**62, -2, -(2**62))
    },
    "no rows": (
        {"images": pa.array([], IMAGE), "labels": pa.array([], pa.int64())},
        " has 0 rows; remove it, or write its images into it",
    ),
    "class names as one text": (
        {"names": "abc"},
        ": its schema metadata has no class names for 'label' (expected the Hugging Face 'ClassLabel' entry)",
    ),
    **{
        f"class names {names!a}": (
            {"names": names},
            f": among its 3 class names for 'label' is {odd}; {DISTINCT}",
        )
        for names, odd in (
            (["ant", "bee", "ant"], "'ant'"),
            (["ant", 7, "cat"], "7"),
            (["ant", None, "cat"], "None"),
            (["ant", "", "cat"], "''"),
            (["ant", "\udcff", "cat"], r"'\udcff'"),
            (["ant", ["bee"], "cat"], "['bee']"),
        )
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_shard_that_is_not_as_expected_is_refused_when_it_is_opened(tmp_path: Path, name: str) -> None:
    parts, message = REFUSED[name]
    path = shard(tmp_path / "a.parquet", **parts)
    assert refusal(lambda: open_parquet([path], "label", lambda name: True)) == f"{path}{message}"


@pytest.mark.parametrize("metadata", ["[" * 100_000, "NaN", '{"info": NaN}', '{"info": {"features": [1]}}', "\xff"])
def test_metadata_that_are_no_json_or_too_deep_are_refused(tmp_path: Path, metadata: str) -> None:
    path = shard(tmp_path / "a.parquet")
    pq.write_table(pq.read_table(path).replace_schema_metadata({"huggingface": metadata}), path)
    assert "its schema metadata has no class names for 'label'" in refusal(lambda: contents(path))


@pytest.mark.parametrize("name", [b"image", b"label", b"bytes"])
def test_names_of_columns_that_are_no_text_are_refused(tmp_path: Path, name: bytes) -> None:
    path = shard(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes().replace(name, b"\xff" + name[1:]))
    said = refusal(lambda: contents(path))
    assert said.startswith(f"{path}: cannot read this Parquet file ('utf-8' codec can't decode byte 0xff")
    assert said.endswith("); download or write it again")


@pytest.mark.parametrize("image", [None, {"bytes": None, "path": "/etc/hostname"}, {"bytes": None, "path": "../x.png"}])
def test_a_null_image_is_refused_and_its_path_never_opened(tmp_path: Path, image: Any) -> None:
    (tmp_path / "x.png").write_bytes(PNGS[0])
    (tmp_path / "set").mkdir()
    images = pa.array([{"bytes": PNGS[0], "path": None}, image, {"bytes": PNGS[2], "path": None}], IMAGE)
    path = shard(tmp_path / "set" / "a.parquet", images)
    message = "the row has no image bytes (only a path?); write the bytes into the Parquet file"
    assert refusal(lambda: contents(path)) == f"{path}, row 1: {message}"


def test_a_path_beside_the_bytes_is_never_opened(tmp_path: Path) -> None:
    images = pa.array([{"bytes": data, "path": "../../../etc/passwd\0"} for data in PNGS], IMAGE)
    assert contents(shard(tmp_path / "a.parquet", images)) == list(zip(NAMES, PNGS, strict=True))


@pytest.mark.parametrize("unlabelled", [None, -1])
def test_null_and_minus_one_are_how_hugging_face_leaves_out_a_row(tmp_path: Path, unlabelled: int | None) -> None:
    path = shard(tmp_path / "a.parquet", labels=pa.array([0, unlabelled, 2]))
    assert contents(path) == [("ant", PNGS[0]), ("cat", PNGS[2])]


def test_shards_of_null_labels_alone_hold_no_image(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.parquet", labels=pa.array([None, None, None], pa.int64()))
    assert contents(path) == []


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.parquet")
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "loop.parquet").symlink_to(tmp_path / "loop.parquet")
    for name, message in (
        ("pipe.parquet", " is a pipe, socket or device, not a file; remove it"),
        ("folder.parquet", " is a folder, not a file; remove it"),
        ("loop.parquet", ": cannot read the file (Too many levels of symbolic links); restore or remove it"),
    ):
        path = tmp_path / name
        assert refusal(lambda path=path: open_parquet([path], "label", lambda name: True)) == f"{path}{message}"


def test_hidden_shards_are_left_out_and_folders_called_like_shards_are_searched(tmp_path: Path) -> None:
    """Copies that macOS and downloads leave behind would count every image twice."""
    (tmp_path / "train.parquet").mkdir()
    write_shard(tmp_path / "train.parquet" / "0.parquet", [(PNGS[0], 0)], ["ant"], label="fine_label")
    for hidden in ("._0.parquet", ".cache/0.parquet"):
        write_shard(tmp_path / hidden, [(b"no image", 0)], ["bee"], label="fine_label")
    expected = r"has 1 images of these 1 classes, expected 600 \(600 a class, but 'ant' has 1\)"
    with pytest.raises(InputError, match=expected):
        open_source(tmp_path, ["ant"], tmp_path / "cache")


# Episode manifests

OFFSETS = np.arange(0, 101, 10)
PROTOCOL = Protocol(n_way=3, n_shot=2, n_query=2, split="test")
EPISODES = [draw_episode(OFFSETS, "table", PROTOCOL, index) for index in range(3)]


def episode(class_ids: list[int], support: list[list[int]], query: list[list[int]]) -> Episode:
    """Return an episode whose hash is right, whatever is in it."""
    return Episode(index=7, class_ids=np.array(class_ids), support_ids=np.array(support), query_ids=np.array(query))


SUPPORT, QUERY = [[0, 1], [10, 11], [20, 21]], [[2, 3], [12, 13], [22, 23]]
TWICE = "expected distinct ones, in support and query together: write it again"
ODD_EPISODES = {
    "a query that is a support": (
        episode([0, 1, 2], SUPPORT, [[1, 3], [12, 13], [22, 23]]),
        f"holds image 1 more than once among 12; {TWICE}",
    ),
    "a query twice": (
        episode([0, 1, 2], SUPPORT, [[3, 3], [12, 13], [22, 23]]),
        f"holds image 3 more than once among 12; {TWICE}",
    ),
    "a support twice": (
        episode([0, 1, 2], [[0, 0], [10, 11], [20, 21]], QUERY),
        f"holds image 0 more than once among 12; {TWICE}",
    ),
    "an image under two labels": (
        episode([0, 1, 2], [[0, 1], [0, 11], [20, 21]], QUERY),
        f"holds image 0 more than once among 12; {TWICE}",
    ),
    "a class twice": (episode([0, 1, 1], SUPPORT, QUERY), f"holds class 1 more than once among 3; {TWICE}"),
    "a row behind the table": (
        episode([0, 1, 2], SUPPORT, [[2, 3], [12, 13], [22, 100]]),
        "names image 100, expected 0 to 99; write it again from the images at hand",
    ),
    "a row far behind the table": (
        episode([0, 1, 2], SUPPORT, [[2, 3], [12, 13], [22, 2**62]]),
        f"names image {2**62}, expected 0 to 99; write it again from the images at hand",
    ),
    "a row before the table": (
        episode([0, 1, 2], SUPPORT, [[2, 3], [12, 13], [22, -1]]),
        "names image -1, expected 0 to 99; write it again from the images at hand",
    ),
    "a class that is not there": (
        episode([0, 1, 10], SUPPORT, QUERY),
        "names class 10, expected 0 to 9; write it again from the images at hand",
    ),
    "a negative class": (
        episode([0, 1, -3], SUPPORT, QUERY),
        "names class -3, expected 0 to 9; write it again from the images at hand",
    ),
}


@pytest.mark.parametrize("name", ODD_EPISODES)
def test_an_episode_that_no_draw_gives_is_refused_though_its_hash_is_right(tmp_path: Path, name: str) -> None:
    odd, message = ODD_EPISODES[name]
    path = tmp_path / "a.parquet"
    write_episode_file(path, [odd], PROTOCOL, "table", [f"class {c}" for c in range(10)])
    assert refusal(lambda: read_episode_file(path, PROTOCOL, "table", 100)) == f"{path}: episode 7 {message}"


LISTS = "list of integers"


@pytest.mark.parametrize(
    ("column", "values", "found", "expected"),
    [
        ("episode", pa.array([0.0, 1, 2]), "double", "integers"),
        ("episode", pa.array(["0", "1", "2"]), "string", "integers"),
        ("episode", pa.array([0, 1, 2], pa.uint64()), "uint64", "integers"),
        ("class_ids", pa.array([0, 1, 2]), "int64", LISTS),
        ("support_rows", pa.array([[0.5], [1.5], [2.5]]), "list<element: double>", LISTS),
        ("query_rows", pa.array([["0"], ["1"], ["2"]]), "list<element: string>", LISTS),
        ("query_rows", pa.array([[[0]], [[1]], [[2]]]), "list<element: list<element: int64>>", LISTS),
        ("support_rows", pa.array([[2**64 - 1]] * 3, pa.list_(pa.uint64())), "list<element: uint64>", LISTS),
        ("hash", pa.array([1, 2, 3]), "int64", "string"),
        ("hash", pa.array([b"1", b"2", b"3"]), "binary", "string"),
    ],
)
def test_columns_of_another_type_are_refused(
    tmp_path: Path, column: str, values: pa.Array, found: str, expected: str
) -> None:
    path = tmp_path / "a.parquet"
    write_episode_file(path, EPISODES, PROTOCOL, "table")
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(column), column, values), path)
    message = f"{path} is not an episode file: its column {column} is {found}, expected {expected}"
    assert refusal(lambda: read_episode_file(path, PROTOCOL, "table", 100)) == message


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ({"n_way": "3"}, "not supported between instances of 'str' and 'int'"),
        ({"n_way": 1}, "n_way is 1; an episode needs at least 2 classes"),
        ({"n_shot": 0}, "n_shot is 0 and n_query 2; both must be at least 1"),
        ({"split": "train"}, "split is 'train'; expected one of base, validation, test"),
        ({"n_ways": 3}, "unexpected keyword argument 'n_ways'"),
        ({"n_way": None}, "not supported between instances of 'NoneType' and 'int'"),
    ],
)
def test_a_protocol_that_is_none_is_refused_by_the_name_of_the_file(protocol: dict[str, Any], message: str) -> None:
    table = pq.read_table(pa.BufferReader(encode_episode_file(EPISODES, PROTOCOL, "table", [])))
    written = {"n_way": 3, "n_shot": 2, "n_query": 2, "split": "test", "seed": 0} | protocol
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"fingerprint": "table", "protocol": json.dumps(written)}), sink)
    said = refusal(lambda: decode_episode_file(sink.getvalue().to_pybytes(), "e.parquet"))
    assert said.startswith("e.parquet is not an episode file: its protocol does not fit (") and message in said


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to itself"])
def test_a_manifest_that_is_no_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.parquet"
    {"pipe": lambda: os.mkfifo(path), "folder": path.mkdir, "link to itself": lambda: path.symlink_to(path)}[kind]()
    said = refusal(lambda: read_episode_file(path, PROTOCOL, "table", 100))
    assert re.fullmatch(
        rf"{path}(: cannot read the file \(Too many .*| is a (pipe, socket or device|folder), not .*)", said
    )


# Damage

WHOLE_MANIFEST = encode_episode_file(EPISODES, PROTOCOL, "table", ["ant"] * 10)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "a.parquet"


@pytest.fixture(scope="module")
def whole_shard(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return shard(tmp_path_factory.mktemp("whole") / "a.parquet", write_page_checksum=True).read_bytes()


@pytest.mark.parametrize("part", ["anywhere", "footer"])
def test_a_damaged_shard_is_read_exactly_or_refused(scratch: Path, whole_shard: bytes, part: str) -> None:
    start = 0 if part == "anywhere" else whole_shard.index(PNGS[2]) + len(PNGS[2])
    expected = list(zip(NAMES, PNGS, strict=True))

    @FUZZ
    @given(corruptions(whole_shard[start:]))
    def check(damaged: bytes) -> None:
        scratch.write_bytes(whole_shard[:start] + damaged)
        try:
            source = open_parquet([scratch], "label", lambda name: True)
            found = [(image.class_name, image.encoded) for image in source.read()]
        except InputError as error:
            assert str(error).startswith(str(scratch))
        else:
            assert [data for _, data in found] == PNGS
            if source.class_names == tuple(NAMES):  # the footer, where their texts are, has no checksum
                assert found == expected

    check()


def test_no_flipped_bit_changes_an_episode_or_its_number_unnoticed() -> None:
    n_refused = 0
    for place in range(0, len(WHOLE_MANIFEST), 5):
        content = bytearray(WHOLE_MANIFEST)
        content[place] ^= 1 << place % 8
        try:
            found = decode_episode_file(bytes(content), "e.parquet").episodes
        except InputError:
            n_refused += 1
        else:
            assert [(e.index, e.hash) for e in found] == [(e.index, e.hash) for e in EPISODES], f"byte {place}"
    assert n_refused > 100


@FUZZ
@given(corruptions(WHOLE_MANIFEST))
def test_a_damaged_manifest_gives_its_episodes_exactly_or_is_refused(damaged: bytes) -> None:
    try:
        found = decode_episode_file(damaged, "e.parquet")
    except InputError as error:
        assert str(error).startswith("e.parquet")
    else:
        assert [(e.index, e.hash) for e in found.episodes] == [(e.index, e.hash) for e in EPISODES]
