"""Every draw of this project comes from here: a named stream, addressed by a root seed and integers.

Philox is a counter-based generator, and numpy guarantees the raw output of its bit generators for ever, while the
methods built on them (`integers`, `choice`, `permutation`) may change between versions. Episodes are drawn from raw
output only; augmentation and initialisation, which need a device and speed, use a torch generator with a derived seed.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import, and who reads or draws episodes needs none
    import torch


class RawStream:
    """Unsigned 64-bit numbers that are a pure function of (key, position).

    Arguments:
        key: any text; its BLAKE2b hash is the 128-bit Philox key.
        index: which of 2^64 independent blocks of the stream, for example the episode's index.
    """

    def __init__(self, key: str, index: int = 0) -> None:
        import numpy as np  # not above: command lines import this module and should answer at once

        words = np.frombuffer(hashlib.blake2b(key.encode(), digest_size=16).digest(), dtype="<u8")
        self._philox = np.random.Philox(key=words.astype(np.uint64), counter=np.array([0, 0, index, 0], np.uint64))

    def below(self, bound: int) -> int:
        """Return a uniform integer in [0, bound), unbiased: draws past the last whole multiple are rejected."""
        if not 1 <= bound <= 1 << 64:
            raise ValueError(f"bound must be 1 to 2^64, got {bound}")
        limit = (1 << 64) - (1 << 64) % bound
        while (value := int(self._philox.random_raw())) >= limit:
            pass
        return value % bound

    def sample(self, population: int, n: int) -> list[int]:
        """Return `n` distinct integers of [0, population) in random order: the head of a Fisher-Yates shuffle."""
        if n > population:
            raise ValueError(f"cannot draw {n} distinct values out of {population}")
        moved: dict[int, int] = {}
        drawn = []
        for position in range(n):
            other = position + self.below(population - position)
            drawn.append(moved.get(other, other))
            moved[other] = moved.get(position, position)
        return drawn


def torch_generator(seed: int, stream: str, index: int = 0, device: "torch.device | str" = "cpu") -> "torch.Generator":
    """Return a torch generator on `device` whose state depends on (seed, stream, index) alone."""
    import torch

    derived = hashlib.blake2b(f"{seed}|{stream}|{index}".encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(derived, "little") >> 1)


@dataclass(frozen=True, kw_only=True)
class EpisodeRandomness:
    """All randomness a method may use in one episode: a generator for each named purpose.

    The same purpose gives the same draws to every method, so that methods differ by what they do, not by luck.
    """

    seed: int
    """Root seed of the run."""
    index: int
    """The episode."""

    def generator(self, purpose: str, device: "torch.device | str" = "cpu") -> "torch.Generator":
        """Return a fresh generator on `device` for `purpose`."""
        return torch_generator(self.seed, purpose, self.index, device)
