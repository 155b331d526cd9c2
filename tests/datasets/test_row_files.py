"""Rows in a file: grown, put in order and gathered as NumPy does it in memory."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from rayfs.datasets import row_files
from rayfs.datasets.row_files import RowFile, arrange, gather

GENERATOR = np.random.Generator(np.random.Philox(3))


def rows_of(n: int, shape: tuple[int, ...] = (5, 7)) -> np.ndarray:
    return GENERATOR.integers(0, 256, (n, *shape), dtype=np.uint8)


def test_a_grown_file_is_the_one_that_numpy_saves(tmp_path: Path) -> None:
    parts = [rows_of(n) for n in (3, 0, 1, 11)]
    grown = RowFile(tmp_path / "grown.npy", (5, 7), np.uint8)
    for part in parts:
        grown.append(part[:, ::1])
    grown.close()
    grown.close()
    np.save(tmp_path / "saved.npy", np.concatenate(parts))
    assert (tmp_path / "grown.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_rows_of_another_shape_or_type_are_refused(tmp_path: Path) -> None:
    grown = RowFile(tmp_path / "grown.npy", (5, 7), np.uint8)
    for rows in (rows_of(2, (7, 5)), rows_of(2).astype(np.float32)):
        with pytest.raises(ValueError, match=r"expected \(n, \(5, 7\)\) uint8, got \(2, "):
            grown.append(rows)
    grown.close()


@pytest.mark.parametrize(
    "order",
    [np.arange(50), np.arange(50)[::-1], np.roll(np.arange(50), 1), GENERATOR.permutation(50), np.zeros(1, np.int64)],
    ids=["in order", "reversed", "one cycle", "random", "one row"],
)
def test_rows_arranged_in_place_are_those_that_numpy_picks(
    order: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "_ROWS", 4)
    before = rows_of(len(order))
    np.save(tmp_path / "rows.npy", before)
    arrange(tmp_path / "rows.npy", order)
    assert np.array_equal(np.load(tmp_path / "rows.npy"), before[order])


ROWS = {
    "neighbours": [2, 3, 4, 9], "twice": [9, 0, 9, 4, 3], "last": [299], "first": [0], "all": list(range(300)),
    "none": [], "two axes": [[7, 1], [299, 298]],
}  # fmt: skip


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="this system takes no advice")
def test_gathered_rows_are_those_that_numpy_picks_and_their_pages_are_announced(
    rows: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "ANNOUNCED_BYTES", 0)
    array, wanted = rows_of(300, (40, 100)), np.array(rows, dtype=np.int64)
    np.save(tmp_path / "rows.npy", array)
    announced: set[int] = set()

    class Recorded(mmap.mmap):
        def madvise(self, option: int, start: int, length: int) -> None:
            super().madvise(option, start, length)
            assert start % mmap.PAGESIZE == 0 and start + length <= len(self)
            announced.update(range(start // mmap.PAGESIZE, -(-(start + length) // mmap.PAGESIZE)))

    monkeypatch.setattr(mmap, "mmap", Recorded)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert np.array_equal(gather(mapped, wanted), array[wanted])
    out = np.empty((*wanted.shape, 40, 100), np.uint8)
    assert gather(mapped, wanted, out=out) is out and np.array_equal(out, array[wanted])
    starts = [mapped.offset + row * 4000 for row in wanted.ravel().tolist()]
    assert announced == {byte // mmap.PAGESIZE for start in starts for byte in range(start, start + 4000)}


def test_a_part_of_a_mapped_array_is_gathered_from_where_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "ANNOUNCED_BYTES", 0)
    array = rows_of(30)
    np.save(tmp_path / "rows.npy", array)
    part = np.load(tmp_path / "rows.npy", mmap_mode="r")[10:20]
    assert np.array_equal(gather(part, np.array([9, 0])), array[[19, 10]])
