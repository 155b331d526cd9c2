"""Rows that cannot be of one run: a part that was copied here from another."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from rayfs.errors import InputError
from rayfs.runs.rows import Row


class Origin(NamedTuple):
    """What tells which episode and which settings a row is of."""

    episode: int
    method: str
    status: str
    episode_hash: str
    config_hash: str

    @property
    def key(self) -> tuple[int, str]:
        """What the row is the result of."""
        return self.episode, self.method

    @property
    def finished(self) -> bool:
        """Whether the method solved the episode."""
        return self.status == "ok"


def origin(row: Row) -> Origin:
    """Return the origin of a row."""
    return Origin(row.episode, row.method, row.status, row.episode_hash, row.config_hash)


def refuse_foreign(parts: Mapping[int, Iterable[Origin]], path: Callable[[int], str]) -> None:
    """Refuse parts in which one episode number is two episodes, or one method has two settings.

    Arguments:
        path: part number -> its path, for messages.

    Raises:
        InputError: names the part, the row, and the part that it contradicts.
    """
    episodes: dict[int, tuple[str, int]] = {}
    configs: dict[str, tuple[str, int]] = {}
    for number in sorted(parts):
        for row in parts[number]:
            expected = {
                "episode hash": (row.episode_hash, *episodes.setdefault(row.episode, (row.episode_hash, number))),
                "config hash": (row.config_hash, *configs.setdefault(row.method, (row.config_hash, number))),
            }
            for what, (found, first, first_number) in expected.items():
                if found != first:
                    raise InputError(
                        f"{path(number)} is of another run than {path(first_number)}: episode {row.episode} of method "
                        f"{row.method!r} has the {what} {found!r} here and {first!r} there; remove the part that does "
                        "not belong to this run"
                    )


def refuse_other_labels(rows: Iterable[Row], n_way: int, location: str) -> None:
    """Refuse rows whose answers are no labels of an `n_way` episode.

    Raises:
        InputError: names the row and the label.
    """
    for row in rows:
        odd = [label for label in (*row.labels, *row.predictions) if not 0 <= label < n_way]
        if odd:
            raise InputError(
                f"{location}: the row of episode {row.episode}, method {row.method!r} has the label {odd[0]}, but its "
                f"episodes are {n_way}-way (0 to {n_way - 1}); the row is of another run: remove the part that holds it"
            )
