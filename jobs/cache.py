"""Show what the cache holds, and clear it. Days are those since a job last used a thing (or wrote it, for small ones).

    python jobs/cache.py
    python jobs/cache.py --remove activations --unused-days 7
    python jobs/cache.py --remove all

All of it is made again where it is needed. Exit code 0: done, 2: wrong input, or a job uses the cache.
"""

import os
import sys
from pathlib import Path

from rayfs.experiments.cache.flags import CacheConfig
from rayfs.flags.command_line import run_job


def main(config: CacheConfig) -> int:
    from rayfs.experiments.cache.job import run_cache

    return run_cache(config, Path(config.cache or os.environ.get("RAYFS_CACHE") or "~/.cache/rayfs").expanduser())


if __name__ == "__main__":
    sys.exit(run_job(main, CacheConfig, __doc__))
