"""Rows of an array in one .npy file, larger than memory perhaps: written as they come, put in order, read at random.

A file that does not fit the memory is read from the disk again and again, so what matters is that nothing else is read.
The system guesses that neighbours come next and reads up to megabytes of them ahead; here it is told what comes.
"""

import contextlib
import mmap
from pathlib import Path

import numpy as np

_ROWS = 1024
"""That are moved at a time: so many are read from the disk at once, and held."""

ANNOUNCED_BYTES = 1 << 30
"""Smaller arrays are soon in memory, whatever is read ahead; there, calls to the system would only cost time."""


class RowFile:
    """A .npy file that grows by rows (n, ...) of one shape and dtype; the whole is never in memory."""

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self._path, self._row_shape, self._dtype = path, row_shape, np.dtype(dtype)
        self._n = 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        """Write `rows` (n, ...) behind those that are there.

        Raises:
            ValueError: their shape or dtype is another one.
        """
        if rows.shape[1:] != self._row_shape or rows.dtype != self._dtype:
            raise ValueError(f"expected (n, {self._row_shape}) {self._dtype}, got {rows.shape} {rows.dtype}")
        self._file.write(np.ascontiguousarray(rows).data)
        self._n += len(rows)

    def close(self) -> None:
        """Finish the file; again does nothing."""
        if not self._file.closed:
            self._file.seek(0)
            self._write_header()  # of the same length: NumPy leaves room for a first axis that grows
            self._file.close()

    def abandon(self) -> None:
        """Close the file, finished or not, whatever the disk says to it."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _write_header(self) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._n, *self._row_shape)}
        np.lib.format.write_array_header_1_0(self._file, header)


def arrange(path: Path, order: np.ndarray) -> None:
    """Put the rows of a .npy file in order where they are: afterwards row i is what row `order[i]` was.

    Arguments:
        order: (N,) int64, each row once.
    """
    array = np.load(path, mmap_mode="r+")
    arranged = np.zeros(len(order), dtype=bool)
    for start in range(len(order)):
        if arranged[start]:
            continue
        cycle = [start]  # row cycle[i] becomes row cycle[i + 1]; the last one becomes the first
        while (following := int(order[cycle[-1]])) != start:
            cycle.append(following)
        if len(cycle) == 1:
            continue
        arranged[cycle] = True
        first = array[start].copy()
        for at in range(0, len(cycle) - 1, _ROWS):
            incoming = np.array(cycle[at + 1 : at + 1 + _ROWS])
            array[cycle[at : at + len(incoming)]] = gather(array, incoming)
        array[cycle[-1]] = first
    array.flush()


def gather(array: np.ndarray, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return a copy of `array[rows]`, in `out` if it is given.

    Of a large memory map, rows that are not in memory are read from the disk at once, and they alone.
    """
    if isinstance(array, np.memmap) and array.flags.c_contiguous and array.nbytes >= ANNOUNCED_BYTES:
        _announce(array, rows)
    if out is None:
        taken: np.ndarray = array[rows]
        return taken
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(array):
        raise IndexError(f"rows {rows.min()} to {rows.max()} of an array of {len(array)}")
    return np.take(array, rows, axis=0, out=out, mode="clip")  # the other mode would fill a buffer first


def _announce(array: np.memmap, rows: np.ndarray) -> None:
    """Let the system begin to read `rows` of a memory map; neighbours by one call."""
    if not hasattr(mmap, "MADV_WILLNEED"):  # a system that takes no advice
        return
    mapped: object = array
    while isinstance(mapped, np.ndarray):
        mapped = mapped.base
    assert isinstance(mapped, mmap.mmap), "what NumPy maps files by"
    wanted = np.unique(rows)
    is_first = np.diff(wanted, prepend=-2) > 1
    origin = array.ctypes.data - np.frombuffer(mapped, dtype=np.uint8).ctypes.data
    starts = origin + wanted[is_first] * array.strides[0]
    ends = origin + (wanted[np.roll(is_first, -1)] + 1) * array.strides[0]
    pages = starts // mmap.PAGESIZE * mmap.PAGESIZE
    for page, n_bytes in zip(pages.tolist(), (ends - pages).tolist(), strict=True):
        mapped.madvise(mmap.MADV_WILLNEED, page, n_bytes)
