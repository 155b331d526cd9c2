"""Rows of a memory-mapped array where the steps of an episode read them: on the CPU, or on a GPU.

A GPU holds the whole array where that takes little of its memory; rows are then gathered there. Otherwise they are
gathered on the host and follow through pinned memory, while the GPU still works on the step before. n rows a step.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rayfs.datasets.row_files import gather

RESIDENT_SHARE = 0.25
"""Of the memory of a GPU, or of a worker's share of it, that arrays may take to stay there."""

COPIED_ROWS = 4096
"""Rows of a memory map that are copied to a GPU at a time."""


def resident_bytes(device: torch.device, share: float = 1.0) -> int:
    """Return what arrays may take of a GPU of which this process has a `share` (0 to 1); 0 on the CPU."""
    if device.type != "cuda":
        return 0
    return int(RESIDENT_SHARE * share * torch.cuda.get_device_properties(device).total_memory)


def resident(array: np.ndarray, device: torch.device, n_bytes: int) -> Tensor | None:
    """Return a copy of `array` on `device`; None where it takes more than `n_bytes`."""
    if array.nbytes > n_bytes:
        return None
    copy = torch.empty(array.shape, dtype=_empty((0,), array.dtype).dtype, device=device)
    for start in range(0, len(array), COPIED_ROWS):
        copy[start : start + COPIED_ROWS] = torch.from_numpy(np.array(array[start : start + COPIED_ROWS]))
    return copy


class Pinned:
    """A place on a GPU that the host fills again and again, always the same one, without waiting for the GPU.

    Two pinned buffers take turns: one may still be read by the copy of the time before.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, device: torch.device) -> None:
        self.value = _empty(shape, dtype).to(device)
        self._buffers = [_empty(shape, dtype).pin_memory() for _ in range(2)]
        self._copied = [torch.cuda.Event() for _ in range(2)]
        self._turn = 0

    def fill(self, write: Callable[[np.ndarray], object]) -> None:
        """Let `write` fill a buffer of the host, and send it behind what the GPU has to do before."""
        self._turn = 1 - self._turn
        buffer, copied = self._buffers[self._turn], self._copied[self._turn]
        copied.synchronize()  # the one before last
        write(buffer.numpy())
        self.value.copy_(buffer, non_blocking=True)
        copied.record()


class RowInput:
    """The rows of `array` that a step reads; the host says which before each step.

    On a GPU all steps read the same memory, so that a captured step sees the rows of its turn.

    Arguments:
        array: (N, ...) memory map.
        on_device: the same on `device`, or None.
        n: rows a step.
    """

    def __init__(self, array: np.ndarray, on_device: Tensor | None, device: torch.device, n: int) -> None:
        self._array, self._on_device = array, on_device
        self._value = torch.empty(0)
        self._pinned = None
        if on_device is None and device.type == "cuda":
            self._pinned = Pinned((n, *array.shape[1:]), array.dtype, device)

    def load(self, rows: np.ndarray) -> None:
        """Let the next `read` give `rows` (n,) int64."""
        if self._on_device is not None:
            return
        if self._pinned is not None:
            self._pinned.fill(lambda buffer: gather(self._array, rows, out=buffer))
        else:
            self._value = torch.from_numpy(gather(self._array, rows))

    def read(self, rows: Tensor) -> Tensor:
        """Return (n, ...) on the device.

        Arguments:
            rows: those that were loaded last, on the device.
        """
        if self._on_device is not None:
            return self._on_device[rows]
        return self._value if self._pinned is None else self._pinned.value


class IndexInput:
    """Indices (n,) int64 that a step reads on a device; on a GPU always at the same place."""

    def __init__(self, n: int, device: torch.device) -> None:
        self._value = torch.zeros(n, dtype=torch.int64)
        self._pinned = Pinned((n,), np.dtype(np.int64), device) if device.type == "cuda" else None

    def load(self, indices: Tensor) -> None:
        """Let the next `read` give `indices` (n,), of the host."""
        if self._pinned is None:
            self._value = indices
        else:
            self._pinned.fill(lambda buffer: np.copyto(buffer, indices.numpy()))

    def read(self) -> Tensor:
        """Return them."""
        return self._value if self._pinned is None else self._pinned.value


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    return torch.from_numpy(np.empty(shape, dtype))
