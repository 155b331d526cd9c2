"""Manifests: what was written comes back, and anything else is refused with what differs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayfs.datasets.episode_file import decode_episode_file, encode_episode_file, read_episode_file, write_episode_file
from rayfs.datasets.episodes import Episode, Protocol, draw_episode
from rayfs.errors import InputError

OFFSETS = np.arange(0, 201, 20)
N_ROWS = 200
PROTOCOL = Protocol(n_way=5, n_shot=2, n_query=3, split="test", seed=4)
EPISODES = [draw_episode(OFFSETS, "table", PROTOCOL, index) for index in range(7)]


@pytest.fixture
def path(tmp_path) -> Path:
    write_episode_file(tmp_path / "new" / "manifest.parquet", EPISODES, PROTOCOL, "table")
    return tmp_path / "new" / "manifest.parquet"


def read(path: Path, protocol: Protocol = PROTOCOL, fingerprint: str = "table", n_rows: int = N_ROWS) -> list[Episode]:
    return read_episode_file(path, protocol, fingerprint, n_rows)


def rewrite(path: Path, change: Callable[[list[dict]], None]) -> None:
    """Change the rows of a manifest and leave all else as it is."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def test_what_was_written_comes_back(path):
    episodes = read(path)
    assert [episode.index for episode in episodes] == list(range(7))
    for episode, expected in zip(episodes, EPISODES, strict=True):
        assert episode.hash == expected.hash
        for name in ("class_ids", "support_ids", "query_ids"):
            array = getattr(episode, name)
            assert np.array_equal(array, getattr(expected, name))
            assert array.dtype == np.int64


def test_nothing_but_the_manifest_is_left(path):
    assert [other.name for other in path.parent.iterdir()] == ["manifest.parquet"]


def test_a_failed_write_leaves_the_old_manifest(path, monkeypatch):
    def fail(*arguments, **options) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="No space left"):
        write_episode_file(path, EPISODES[:2], PROTOCOL, "table")
    monkeypatch.undo()
    assert len(read(path)) == 7
    assert [other.name for other in path.parent.iterdir()] == ["manifest.parquet"]


def test_manifest_is_plain_parquet_that_others_can_read(path):
    table = pq.read_table(path)
    assert table.column_names == ["episode", "class_ids", "support_rows", "query_rows", "hash"]
    assert table["support_rows"][0].as_py() == EPISODES[0].support_ids.ravel().tolist()
    assert json.loads(table.schema.metadata[b"protocol"])["n_way"] == 5


def test_episodes_may_have_any_distinct_numbers_in_any_order(tmp_path):
    chosen = [draw_episode(OFFSETS, "table", PROTOCOL, index) for index in (9, 2, 2**40)]
    write_episode_file(tmp_path / "a.parquet", chosen, PROTOCOL, "table")
    assert [episode.index for episode in read(tmp_path / "a.parquet")] == [9, 2, 2**40]


def test_the_seed_may_differ(path):
    other = Protocol(n_way=5, n_shot=2, n_query=3, split="test", seed=99)
    assert [episode.hash for episode in read(path, other)] == [episode.hash for episode in EPISODES]


def test_another_table_is_refused_with_both_fingerprints(path):
    expected = rf"^{path} was written for image table table, but the data at hand are other: other images, classes or"
    with pytest.raises(InputError, match=expected):
        read(path, fingerprint="other")


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("n_way", 4, "--n-way 5"),
        ("n_shot", 1, "--n-shot 2"),
        ("n_query", 15, "--n-query 3"),
        ("split", "validation", "--split test"),
    ],
)
def test_another_protocol_is_refused_with_the_flag_that_fits(path, field, value, flag):
    fields = {"n_way": 5, "n_shot": 2, "n_query": 3, "split": "test", field: value}
    expected = rf"holds episodes with {field} = .* but {value} was asked for; pass {flag} or another --manifest$"
    with pytest.raises(InputError, match=expected):
        read(path, Protocol(**fields))


def _swap_two_rows(rows: list[dict]) -> None:
    rows[3]["query_rows"][:2] = rows[3]["query_rows"][1::-1]


def _drop_a_row(rows: list[dict]) -> None:
    rows[3]["support_rows"].pop()


def _lose_the_classes(rows: list[dict]) -> None:
    rows[3]["class_ids"] = None


def _other_class(rows: list[dict]) -> None:
    rows[3]["class_ids"][0] += 1


def _other_hash(rows: list[dict]) -> None:
    rows[3]["hash"] = "0123456789abcdef"


def _null_in_a_list(rows: list[dict]) -> None:
    rows[3]["query_rows"][0] = None


@pytest.mark.parametrize(
    "damage", [_swap_two_rows, _drop_a_row, _lose_the_classes, _other_class, _other_hash, _null_in_a_list]
)
def test_a_damaged_row_is_refused_by_its_number(path, damage):
    rewrite(path, damage)
    with pytest.raises(
        InputError, match=rf"^{path}: episode 3 does not match its hash [0-9a-f]{{16}}; the file was chan"
    ):
        read(path)


def test_rows_outside_the_table_are_refused(path):
    with pytest.raises(InputError, match=r"^.*: episode 0 names image \d+, expected 0 to 49; write it again from"):
        read(path, n_rows=50)


@pytest.mark.parametrize("number", [2, None, -1])
def test_episode_numbers_that_are_missing_or_repeated_are_refused(path, number):
    rewrite(path, lambda rows: rows[3].update(episode=number))
    expected = rf"holds 1 episode numbers that are missing or repeated, among them {number}; expected distinct numbers"
    with pytest.raises(InputError, match=expected):
        read(path)


def test_a_manifest_without_episodes_is_refused(tmp_path):
    write_episode_file(tmp_path / "a.parquet", [], PROTOCOL, "table")
    with pytest.raises(InputError, match="holds 0 episodes"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("content", [b"", b"{}", b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_refused(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(
        InputError, match=rf"^{tmp_path}/a.parquet: cannot read the episode file \(.+\); expected a Parquet"
    ):
        read(tmp_path / "a.parquet")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none.parquet: cannot read the file \(No such file or directory\)"):
        read(tmp_path / "none.parquet")


def test_a_truncated_manifest_is_refused(path):
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="cannot read the episode file"):
        read(path)


def test_parquet_of_something_else_is_refused_with_its_columns(tmp_path):
    pq.write_table(pa.table({"img": [1], "label": [2]}), tmp_path / "a.parquet")
    expected = "is not an episode file: it has columns img, label, expected episode, class_ids, support_rows"
    with pytest.raises(InputError, match=expected):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "metadata", [{}, {"protocol": "{}"}, {"fingerprint": "table", "protocol": "{"}, {"a": b"\xff"}]
)
def test_missing_or_unreadable_metadata_are_refused(path, metadata):
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    with pytest.raises(InputError, match="is not an episode file"):
        read(path)


def test_a_manifest_is_read_without_its_table():
    names = tuple(f"class {c}" for c in range(10))
    found = decode_episode_file(encode_episode_file(EPISODES, PROTOCOL, "table", names), "episodes.parquet")
    assert (found.fingerprint, found.protocol, found.class_names) == ("table", PROTOCOL, names)
    assert [episode.hash for episode in found.episodes] == [episode.hash for episode in EPISODES]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no parquet at all"])
def test_bytes_that_are_no_manifest_are_refused_by_name(data):
    with pytest.raises(InputError, match=r"episodes\.parquet: cannot read the episode file"):
        decode_episode_file(data, "episodes.parquet")
