"""This process among those that train together."""

from dataclasses import dataclass

import torch.distributed
from torch import Tensor

from rayfs.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Team:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of_this_process(cls) -> "Team":
        """Ask torch.distributed; alone where it is not in use."""
        if not torch.distributed.is_initialized():
            return cls()
        return cls(rank=torch.distributed.get_rank(), size=torch.distributed.get_world_size())

    def part(self, n: int) -> slice:
        """Return which of the `n` units of a step are this process's: images, or whole episodes."""
        assert n % self.size == 0, "refuse_uneven comes first"
        each = n // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of `values` over all processes."""
        if self.size == 1:
            return values
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total / self.size


def refuse_uneven(units: int, unit: str, workers: int) -> None:
    """Refuse a step that `workers` cannot share evenly.

    Raises:
        InputError: see above.
    """
    if units % workers:
        raise InputError(
            f"a batch of {units} {unit} cannot be shared evenly by {workers} workers; choose --workers or --batch so "
            "that one divides the other"
        )
