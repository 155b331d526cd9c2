"""Rows of a search over settings of knowledge transfer: one for each setting of each block.

A block is what is scored at once: settings that share everything but their thresholds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from rayfs.errors import InputError
from rayfs.json_text import parse_json
from rayfs.long_tail.search import ScoredSetting
from rayfs.long_tail.search_space import TransferSetting
from rayfs.runs.row_kind import Done, RowKind
from rayfs.runs.search_state import SEARCH
from rayfs.runs.storage import Storage

FOLDER = "blocks"
IDENTITY = "long_tail"
"""Key of `search.json` that holds the identity."""


@dataclass(frozen=True, kw_only=True)
class BlockRow:
    """One scored setting of one block."""

    space: str
    """Hash of the space that the block is drawn from."""
    block: int
    """Number of the block in its space."""
    place: int
    """Of the setting in its block."""
    thresholds: list[int]
    tau: float
    terms: list[str]
    attention: str
    own_neighbour: bool
    groups: list[str]
    """Groups of classes that have validation images."""
    accuracy: list[float]
    """Of each of `groups`, in percent: the mean over its classes."""

    @property
    def key(self) -> tuple[str, int, int]:
        """What it is the result of."""
        return self.space, self.block, self.place

    @property
    def finished(self) -> bool:
        """All rows are: a block is committed whole."""
        return True

    @property
    def scored(self) -> ScoredSetting:
        """Return the setting with its accuracies."""
        plain = {name: getattr(self, name) for name in ("thresholds", "tau", "terms", "attention", "own_neighbour")}
        return scored_from_plain(
            {"setting": plain, "accuracy": dict(zip(self.groups, self.accuracy, strict=True))}
        )  # fmt: skip


def block_rows(space: str, block: int, scored: Iterable[ScoredSetting]) -> list[BlockRow]:
    """Return the rows of a block."""
    rows = []
    for place, each in enumerate(scored):
        setting = each.setting
        rows.append(
            BlockRow(
                space=space, block=block, place=place, thresholds=list(setting.thresholds), tau=setting.tau,
                terms=list(setting.terms), attention=setting.attention, own_neighbour=setting.own_neighbour,
                groups=list(each.accuracy), accuracy=list(each.accuracy.values()),
            )
        )  # fmt: skip
    return rows


def _described(rows: Sequence[BlockRow]) -> str:
    return ", ".join(f"block {block} of space {space}" for space, block in dict.fromkeys(row.key[:2] for row in rows))


def scored_from_plain(plain: Mapping[str, Any]) -> ScoredSetting:
    """Return a scored setting from what `asdict` and JSON made of it."""
    values = dict(plain["setting"])
    values["thresholds"], values["terms"] = tuple(values["thresholds"]), tuple(values["terms"])
    return ScoredSetting(setting=TransferSetting(**values), accuracy=dict(plain["accuracy"]))


def read_search(content: bytes, location: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return (identity, setting that was scored on test images) of a `search.json`.

    Raises:
        InputError: it is damaged, or of a search of another method.
    """
    try:
        values = parse_json(content)
        return dict(values[IDENTITY]), values["final"]
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{SEARCH} in {location} is damaged or of another method; it says whether test images were used: "
            "restore it, or search into another --out"
        ) from None


def _former_identity(storage: Storage, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the identity in the `search.json` of a search that was written before it had a manifest."""
    return read_search(storage.read(SEARCH), storage.root)[0] if SEARCH in names else None


BLOCKS: RowKind[BlockRow] = RowKind(
    name="settings of a long tail",
    folder=FOLDER,
    schema=pa.schema(
        [
            ("space", pa.string()),
            ("block", pa.int64()),
            ("place", pa.int64()),
            ("thresholds", pa.list_(pa.int64())),
            ("tau", pa.float64()),
            ("terms", pa.list_(pa.string())),
            ("attention", pa.string()),
            ("own_neighbour", pa.bool_()),
            ("groups", pa.list_(pa.string())),
            ("accuracy", pa.list_(pa.float64())),
        ]
    ),
    row=BlockRow,
    origin=Done.of,
    origin_columns=("space", "block", "place"),
    origin_of=lambda row: Done(row.key),
    described=_described,
    former_identity=_former_identity,
)
"""A part is a block."""
