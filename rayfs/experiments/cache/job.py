"""The job that shows the cache and clears it: table, removal."""

import time
from pathlib import Path

from rayfs.cache import Entry, cache_entries, remove_entries
from rayfs.errors import InputError
from rayfs.experiments.cache.flags import CacheConfig
from rayfs.flags.command_line import EXIT_OK

DAY_S = 86400.0


def run_cache(config: CacheConfig, folder: Path) -> int:
    """Print what the cache holds, or remove what the flags name, and return the exit code.

    Raises:
        InputError: there is no such folder or kind, or a job uses the cache.
    """
    if not folder.is_dir():
        raise InputError(f"the cache {folder} does not exist; name it by --cache or RAYFS_CACHE")
    entries = cache_entries(folder)
    now = time.time()
    if not config.remove:
        print(describe_cache(folder, entries, now))
        return EXIT_OK
    kinds = sorted({entry.kind for entry in entries})
    for kind in config.remove:
        if kind != "all" and kind not in kinds:
            raise InputError(f"--remove {kind}: the cache {folder} holds {', '.join(kinds) or 'nothing'}")
    chosen = [
        entry
        for entry in entries
        if ("all" in config.remove or entry.kind in config.remove) and now - entry.used >= config.unused_days * DAY_S
    ]
    remove_entries(folder, chosen)
    print(f"removed {len(chosen)} of {len(entries)}: {gigabytes(chosen)} of {gigabytes(entries)}")
    return EXIT_OK


def describe_cache(folder: Path, entries: list[Entry], now: float) -> str:
    """Return the table: size, days since the last use, kind, what it is, and where; then sums by kind."""
    lines = [f"{'GB':>8} {'days':>6}  {'kind':<12} {'of':<44} file"]
    for entry in entries:
        days = (now - entry.used) / DAY_S
        place = entry.path.relative_to(folder)
        lines.append(f"{entry.n_bytes / 1e9:8.3f} {days:6.1f}  {entry.kind:<12} {entry.what:<44} {place}")
    by_kind = {kind: [entry for entry in entries if entry.kind == kind] for kind in sorted({e.kind for e in entries})}
    sums = ", ".join(f"{kind} {gigabytes(of_kind)} in {len(of_kind)}" for kind, of_kind in by_kind.items())
    return "\n".join([*lines, f"{folder}: {gigabytes(entries)}" + (f" ({sums})" if sums else "")])


def gigabytes(entries: list[Entry]) -> str:
    """Return how much `entries` take together."""
    return f"{sum(entry.n_bytes for entry in entries) / 1e9:.2f} GB"
