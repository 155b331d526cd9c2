"""Rows of a memory-mapped array where the steps of an episode read them: on the CPU, or on a GPU.

A GPU holds the whole array where that takes little of its memory; rows are then gathered there. Otherwise they are
gathered on the host and follow through pinned memory while the GPU still works on the step before. n rows a step.
"""

import numpy as np
import torch
from torch import Tensor

from rayfs.benchmarks.row_files import gather

RESIDENT_SHARE = 0.25
"""Of the free memory of a GPU: larger arrays stay on the host."""


def resident(array: np.ndarray, device: torch.device) -> Tensor | None:
    """Return a copy of `array` on a GPU; None on the CPU, which maps it, and where it takes too much of the GPU."""
    if device.type != "cuda" or array.nbytes > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return None
    return torch.from_numpy(np.array(array)).to(device)


class RowInput:
    """The rows of `array` that a step reads; the host says which before each step.

    On a GPU all steps read the same memory, so that a captured step sees the rows of its turn.

    Arguments:
        array: (N, ...) memory map.
        on_device: the same on `device`, or None.
        n: rows a step.
    """

    def __init__(self, array: np.ndarray, on_device: Tensor | None, device: torch.device, n: int) -> None:
        self._array, self._on_device, self._device = array, on_device, device
        self._value = torch.empty(0, device=device)
        if on_device is not None:
            self._rows = torch.zeros(n, dtype=torch.int64, device=device)
        elif device.type == "cuda":
            self._value = _empty(array, n).to(device)
            self._pinned = [_empty(array, n).pin_memory() for _ in range(2)]
            self._copied = [torch.cuda.Event() for _ in range(2)]
            self._turn = 0

    def load(self, rows: np.ndarray) -> None:
        """Let the next `read` give `rows` (n,) int64."""
        if self._on_device is not None:
            self._rows.copy_(torch.from_numpy(rows))
        elif self._device.type == "cuda":
            self._turn = 1 - self._turn
            staging, copied = self._pinned[self._turn], self._copied[self._turn]
            copied.synchronize()  # two steps ago; the GPU has long read it
            gather(self._array, rows, out=staging.numpy())
            self._value.copy_(staging, non_blocking=True)
            copied.record()
        else:
            self._value = torch.from_numpy(gather(self._array, rows))

    def read(self) -> Tensor:
        """Return (n, ...) on the device."""
        return self._value if self._on_device is None else self._on_device[self._rows]


class IndexInput:
    """Indices (n,) int64 that a step reads on a device; on a GPU always at the same place."""

    def __init__(self, n: int, device: torch.device) -> None:
        self._value = torch.zeros(n, dtype=torch.int64, device=device)

    def load(self, indices: Tensor) -> None:
        """Let the next `read` give `indices` (n,), of the host."""
        if self._value.device.type == "cpu":
            self._value = indices
        else:
            self._value.copy_(indices)

    def read(self) -> Tensor:
        """Return them."""
        return self._value


def _empty(array: np.ndarray, n: int) -> Tensor:
    return torch.from_numpy(np.empty((n, *array.shape[1:]), array.dtype))
