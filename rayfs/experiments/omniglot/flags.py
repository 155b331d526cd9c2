"""Flags of `jobs/embed_omniglot.py`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rayfs.flags.flag import Shown


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """Flags of `jobs/embed_omniglot.py`."""

    archives: Annotated[Path, Shown(value="DIR", title="Folders")]
    """Folder with the three archives of github.com/brendenlake/omniglot (MIT)."""
    target: Annotated[Path, Shown(value="DIR")] = Path("rayfs/datasets/data/omniglot")
    """Where the Parquet files go."""
