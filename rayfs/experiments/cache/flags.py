"""Flags of `jobs/cache.py`."""

from dataclasses import dataclass
from typing import Annotated

from rayfs.errors import InputError
from rayfs.flags.flag import Shown


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Flags of `jobs/cache.py`."""

    cache: Annotated[str | None, Shown(value="DIR", title="Cache")] = None
    """The folder; default: $RAYFS_CACHE, else ~/.cache/rayfs."""
    remove: Annotated[tuple[str, ...], Shown(value="KIND ...")] = ()
    """Kinds to remove, as the table names them (activations, features, tables ...), or all; default: none. They are
    made again where a job needs them. Refused while a job uses the cache."""
    unused_days: float = 0.0
    """With --remove: only what no job has used for so many days."""

    def __post_init__(self) -> None:
        if not 0 <= self.unused_days < float("inf"):
            raise InputError(f"--unused-days is {self.unused_days}; expected days, 0 or more")
        if self.unused_days and not self.remove:
            raise InputError(f"--unused-days {self.unused_days:g} without --remove; add --remove all, or a kind")
