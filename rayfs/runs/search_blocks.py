"""A search over settings of knowledge transfer: its blocks, and what it says of itself in `search.json`."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rayfs.errors import InputError
from rayfs.hashing import stable_hash
from rayfs.json_text import parse_json
from rayfs.long_tail.search import ScoredSetting
from rayfs.long_tail.search_space import TransferSpace
from rayfs.redaction import without_secrets_inside
from rayfs.runs.block_rows import FOLDER, IDENTITY, BlockRow, block_rows, read_search, scored_from_plain
from rayfs.runs.run_directory import RunDirectory
from rayfs.runs.search_state import SEARCH

_JSON_BLOCK = re.compile(r"([0-9a-f]+)-(\d{6,})\.json")


class BlockStore:
    """The blocks of an open run directory, and `search.json` beside them; blocks of all spaces count.

    Blocks that an earlier version wrote as JSON are taken over.

    Raises:
        InputError: `search.json` is damaged or gone, or a block is damaged.
    """

    def __init__(self, run: RunDirectory[BlockRow], identity: Mapping[str, Any]) -> None:
        self.run = run
        self._identity = dict(identity)
        stored = run.read_file(SEARCH)
        self.final: dict[str, Any] | None = None if stored is None else read_search(stored, run.location)[1]
        """The setting that was scored on test images, if one was."""
        if stored is None and run.completed():
            raise InputError(
                f"{run.location} has blocks but no {SEARCH}, which says whether test images were used: restore it, or "
                "search into another --out"
            )
        _take_over_json(run)
        self._blocks = {(space, block) for space, block, _ in run.completed()}
        if stored is None:
            self._write_search({})

    def has(self, space: TransferSpace, index: int) -> bool:
        """Tell whether a block is there."""
        return (stable_hash(space), index) in self._blocks

    def add(self, space: TransferSpace, index: int, scored: Sequence[ScoredSetting]) -> None:
        """Keep a block."""
        self.run.append(block_rows(stable_hash(space), index, scored))
        self._blocks.add((stable_hash(space), index))

    def scored(self) -> list[ScoredSetting]:
        """Return all settings that are there, block by block.

        Raises:
            InputError: a block is damaged.
        """
        return [row.scored for row in self.run.rows()]

    def mark_final(self, setting: dict[str, Any], session: Mapping[str, Any]) -> None:
        """Note that test images are used, before they are."""
        self.final = setting
        self._write_search(without_secrets_inside({"session": dict(session)}))

    def _write_search(self, more: Mapping[str, Any]) -> None:
        content = {IDENTITY: self._identity, "final": self.final, **more}
        self.run.write_file(SEARCH, json.dumps(content, indent=2) + "\n")


def _take_over_json(run: RunDirectory[BlockRow]) -> None:
    """Commit blocks that an earlier version wrote as `blocks/SPACE-NNNNNN.json`; the files stay.

    Raises:
        InputError: one is damaged.
    """
    completed = run.completed()
    for name in run.names(FOLDER):
        match = _JSON_BLOCK.fullmatch(name)
        if match is None or (match[1], int(match[2]), 0) in completed:
            continue
        try:
            scored = [scored_from_plain(each) for each in parse_json(run.read_file(name, FOLDER) or b"")]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{FOLDER}/{name} in {run.location} is damaged ({error}); remove it") from None
        run.append(block_rows(match[1], int(match[2]), scored))
