"""Episodes as addresses: episode i is a pure function of (table, protocol, i).

Drawn from the raw output of a counter-based generator, so it is the same on every machine, for every worker count and
order, and in every library version. Two episodes share no generator state, which rules out the duplicated episodes
behind the too narrow intervals of RFS and of Label Hallucination (two loader workers with one forked numpy state).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rayfs.errors import InputError
from rayfs.hashing import digest, stable_hash
from rayfs.randomness import RawStream

SPLITS = ("base", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How episodes are drawn."""

    n_way: int
    """Classes per episode."""
    n_shot: int
    """Labelled (support) images per class."""
    n_query: int
    """Query images per class; never overlap the support."""
    split: str
    """Which classes: 'validation' to choose anything, 'test' to report."""
    seed: int = 0
    """Root seed of the draw."""

    def __post_init__(self) -> None:
        if self.n_way < 2:
            raise InputError(f"n_way is {self.n_way}; an episode needs at least 2 classes")
        if self.n_shot < 1 or self.n_query < 1:
            raise InputError(f"n_shot is {self.n_shot} and n_query {self.n_query}; both must be at least 1")
        if self.split not in SPLITS:
            raise InputError(f"split is '{self.split}'; expected one of {', '.join(SPLITS)}")

    @property
    def hash(self) -> str:
        """Stable hash of all fields."""
        return stable_hash(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """Image ids of one episode.

    Arguments:
        index: its number i.
        class_ids: (n_way,) int64, the class of each of the episode's labels 0 .. n_way - 1.
        support_ids: (n_way, n_shot) int64 ids of images: rows of the image table.
        query_ids: (n_way, n_query) int64 ids of images: rows of the image table.
    """

    index: int
    class_ids: np.ndarray
    support_ids: np.ndarray
    query_ids: np.ndarray

    @cached_property
    def hash(self) -> str:
        """Hash of the image ids; two episodes with the same hash are the same episode."""
        arrays = (self.class_ids, self.support_ids, self.query_ids)
        return digest(b"".join(np.ascontiguousarray(array, dtype="<i8").tobytes() + b"|" for array in arrays))


def check_protocol(protocol: Protocol, class_names: Sequence[str], class_counts: np.ndarray) -> None:
    """Refuse a protocol that the classes cannot serve.

    Raises:
        InputError: too few classes, or a class with too few images; with the numbers and the fix.
    """
    n_classes, n_images = len(class_names), protocol.n_shot + protocol.n_query
    if n_classes < protocol.n_way:
        advice = f"lower --n-way to {n_classes} or use" if n_classes >= 2 else "use"
        raise InputError(
            f"split '{protocol.split}' has {n_classes} classes but the protocol asks for {protocol.n_way}-way "
            f"episodes; {advice} a split with more classes"
        )
    small = [(int(count), name) for count, name in zip(class_counts, class_names, strict=True) if count < n_images]
    if small:
        count, name = min(small)
        if count > protocol.n_shot:
            advice = f"lower --n-query to {count - protocol.n_shot} or add images"
        elif count >= 2:
            advice = f"lower --n-shot to at most {count - 1}, with --n-query for the rest, or add images"
        else:
            advice = "add images or remove the class"
        raise InputError(
            f"class '{name}' of split '{protocol.split}' has {count} images but an episode takes "
            f"{protocol.n_shot} support + {protocol.n_query} query = {n_images} ({len(small)} of {n_classes} classes "
            f"are too small); {advice}"
        )


def draw_episode(offsets: np.ndarray, fingerprint: str, protocol: Protocol, index: int) -> Episode:
    """Draw episode `index` of a table whose class c owns rows `offsets[c]:offsets[c + 1]`.

    Classes are drawn without replacement, then each class's support and query images without replacement. Use
    `check_protocol` first.
    """
    stream = RawStream(f"rayfs episode 1|{fingerprint}|{protocol.hash}", index)
    class_ids = np.array(stream.sample(len(offsets) - 1, protocol.n_way), dtype=np.int64)
    n_images = protocol.n_shot + protocol.n_query
    rows = np.array(
        [offsets[c] + np.array(stream.sample(int(offsets[c + 1] - offsets[c]), n_images)) for c in class_ids],
        dtype=np.int64,
    )
    return Episode(
        index=index, class_ids=class_ids, support_ids=rows[:, : protocol.n_shot], query_ids=rows[:, protocol.n_shot :]
    )
