"""Part files: what is committed, and what the reader makes of many and of damaged ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from rayfs.errors import InputError
from rayfs.runs.episode_rows import EPISODES
from rayfs.runs.parts import encode_part, merge_rows, part_name, part_numbers, read_origins, read_part
from rayfs.runs.rows import Row
from rayfs.runs.storage import Storage

MakeRow = Callable[..., Row]


def commit(folder: Path, number: int, rows: list[Row]) -> Path:
    path = folder / part_name(EPISODES, number)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode_part(EPISODES, rows))
    return path


def test_a_part_gives_back_its_rows_and_their_origins(tmp_path: Path, make_row: MakeRow) -> None:
    rows = [make_row(0), make_row(1, accuracy=None), make_row(1, "cosine")]
    commit(tmp_path, 7, rows)
    storage = Storage.at(str(tmp_path))
    assert part_numbers(EPISODES, storage) == [7]
    assert read_part(EPISODES, storage, 7) == rows
    assert read_origins(EPISODES, storage, 7) == [
        (0, "logistic-regression", "ok", "hash-0", "config-logistic-regression"),
        (1, "logistic-regression", "failed", "hash-1", "config-logistic-regression"),
        (1, "cosine", "ok", "hash-1", "config-cosine"),
    ]


def test_what_an_earlier_version_wrote_is_read_in_the_words_of_this_one(tmp_path: Path, make_row: MakeRow) -> None:
    def renamed(table: pa.Table) -> pa.Table:
        names = ["new" if name == "old" else name for name in table.column("method").to_pylist()]
        return table.set_column(table.schema.get_field_index("method"), table.schema.field("method"), pa.array(names))

    commit(tmp_path, 0, [make_row(0, "old"), make_row(0, "kept")])
    kind, storage = replace(EPISODES, translated=renamed), Storage.at(str(tmp_path))
    assert [row.method for row in read_part(kind, storage, 0)] == ["new", "kept"]
    assert [origin.key for origin in read_origins(kind, storage, 0)] == [(0, "new"), (0, "kept")]


def test_parts_are_ordered_as_numbers_and_other_files_are_ignored(tmp_path: Path, make_row: MakeRow) -> None:
    for number in (1000000, 999999, 2):
        commit(tmp_path, number, [make_row()])
    for name in (".part-000009.parquet.tmp", "part-000003.parquet.bak", "notes.txt"):
        (tmp_path / "episodes" / name).touch()
    assert part_numbers(EPISODES, Storage.at(str(tmp_path))) == [2, 999999, 1000000]


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_truncated_part_is_an_input_error_that_names_it(tmp_path: Path, make_row: MakeRow, kept: int) -> None:
    path = commit(tmp_path, 4, [make_row()])
    path.write_bytes(path.read_bytes()[:kept])
    for read in (read_part, read_origins):
        with pytest.raises(InputError, match=r"part-000004.parquet cannot be read: .*; if it is damaged, delete it"):
            read(EPISODES, Storage.at(str(tmp_path)), 4)


def test_no_flipped_bit_changes_a_row_unnoticed(tmp_path: Path, make_row: MakeRow) -> None:
    rows = [make_row(accuracy=0.123456789)]
    path = commit(tmp_path, 4, rows)
    whole = path.read_bytes()
    storage = Storage.at(str(tmp_path))
    n_found = 0
    for position in range(0, len(whole), 5):
        content = bytearray(whole)
        content[position] ^= 1 << position % 8
        path.write_bytes(content)
        try:
            assert read_part(EPISODES, storage, 4) == rows, f"bit {position % 8} of byte {position}"
        except InputError as error:
            assert "part-000004.parquet" in str(error)
            n_found += 1
    assert n_found > 100


def test_rows_that_a_damaged_footer_hides_are_missed(
    tmp_path: Path, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The footer has no checksum: of a part that loses a row group it may be the only one that still knows."""
    commit(tmp_path, 4, [make_row(0), make_row(1)])

    class Shortened(parquet.ParquetFile):
        def read(self, columns: list[str] | None = None) -> pa.Table:
            return super().read(columns=columns).slice(0, 1)

    monkeypatch.setattr("rayfs.runs.parts.parquet.ParquetFile", Shortened)
    for read in (read_part, read_origins):
        with pytest.raises(InputError, match=r"part-000004.parquet cannot be read: it has 1 rows of 2"):
            read(EPISODES, Storage.at(str(tmp_path)), 4)


def test_a_part_with_other_columns_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "episodes").mkdir()
    parquet.write_table(pa.table({"episode": [1]}), tmp_path / part_name(EPISODES, 0))
    with pytest.raises(InputError, match=r"part-000000.parquet has other columns"):
        read_origins(EPISODES, Storage.at(str(tmp_path)), 0)


def test_ok_beats_failed_and_a_later_part_beats_an_earlier(make_row: MakeRow) -> None:
    merged = merge_rows(
        {
            0: [make_row(0, accuracy=0.1), make_row(1, accuracy=None, attempt=1), make_row(2, accuracy=None)],
            1: [make_row(0, accuracy=0.2), make_row(1, accuracy=None, attempt=3), make_row(2, accuracy=0.5)],
            2: [make_row(2, accuracy=None), make_row(0, "a")],
        }
    )
    assert [(row.episode, row.method, row.accuracy) for row in merged] == [
        (0, "a", 0.8),
        (0, "logistic-regression", 0.2),
        (1, "logistic-regression", None),
        (2, "logistic-regression", 0.5),
    ]
    assert merged[2].attempt == 3


@given(
    parts=st.lists(
        st.lists(st.tuples(st.integers(0, 4), st.sampled_from("ab"), st.none() | st.floats(0, 1)), max_size=5),
        max_size=5,
    ),
    data=st.data(),
)
def test_parts_merge_to_the_same_rows_in_any_order(make_row: MakeRow, parts: list, data: st.DataObject) -> None:
    numbered = {number: [make_row(*fields) for fields in part] for number, part in enumerate(parts)}
    order = data.draw(st.permutations(list(numbered)))
    merged = merge_rows(numbered)
    assert merge_rows({number: numbered[number] for number in order}) == merged
    every = {(row.episode, row.method) for part in numbered.values() for row in part}
    assert [(row.episode, row.method) for row in merged] == sorted(every)
    assert merge_rows({0: merged}) == merged
