"""The files of a search over settings of knowledge transfer: a file for each block, and what the search is of."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rayfs.errors import InputError
from rayfs.hashing import stable_hash
from rayfs.json_text import parse_json
from rayfs.long_tail.search import ScoredSetting
from rayfs.long_tail.search_space import TransferSetting, TransferSpace
from rayfs.redaction import without_secrets, without_secrets_inside
from rayfs.runs.run_manifest import refuse_difference
from rayfs.runs.storage import Storage, explained, is_temporary

SEARCH, BLOCKS = "search.json", "blocks"


class BlockStore:
    """`search.json` and `blocks/SPACE-NNNNNN.json` at one location; blocks of all spaces count.

    Raises:
        InputError: the location cannot be used, or holds another search or other files.
    """

    def __init__(self, location: str, identity: Mapping[str, Any]) -> None:
        self.location = without_secrets(location)
        self._identity = json.loads(json.dumps(identity))
        self.final: dict[str, Any] | None = None
        """The setting that was scored on test images, if one was."""
        with explained(f"use the search directory {self.location}"):
            self._storage = Storage.at(location)
            names = [name for name in self._storage.names() if not is_temporary(name)]
            if SEARCH in names:
                self._read()
            elif names:
                raise InputError(
                    f"--out {self.location} holds other files ('{names[0]}') and no search; give a new one"
                )
            else:
                self._storage.make_folder(BLOCKS)
                self._write_search({})
            self._names = set(self._storage.names(BLOCKS))

    def has(self, space: TransferSpace, index: int) -> bool:
        """Tell whether a block is there."""
        return self._name(space, index) in self._names

    def add(self, space: TransferSpace, index: int, scored: Sequence[ScoredSetting]) -> None:
        """Keep a block."""
        name = self._name(space, index)
        self.write(f"{BLOCKS}/{name}", json.dumps([asdict(each) for each in scored]))
        self._names.add(name)

    def scored(self) -> list[ScoredSetting]:
        """Return all settings that are there, block by block.

        Raises:
            InputError: a block is damaged.
        """
        found = []
        for name in sorted(name for name in self._names if name.endswith(".json")):
            try:
                found += [scored_from_plain(each) for each in parse_json(self._storage.read(f"{BLOCKS}/{name}"))]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{BLOCKS}/{name} in {self.location} is damaged ({error}); remove it") from None
        return found

    def mark_final(self, setting: dict[str, Any], session: Mapping[str, Any]) -> None:
        """Note that test images are used, before they are."""
        self.final = setting
        self._write_search(without_secrets_inside({"session": session}))

    def write(self, name: str, content: str) -> None:
        """Write a file."""
        with explained(f"write {name} in {self.location}"):
            self._storage.write(name, content.encode())

    def _read(self) -> None:
        try:
            values = parse_json(self._storage.read(SEARCH))
            identity, self.final = values["long_tail"], values["final"]
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{SEARCH} in {self.location} is damaged or of another method; it says whether test images were used: "
                "restore it, or search into another --out"
            ) from None
        refuse_difference(identity, self._identity, self.location)

    def _write_search(self, more: Mapping[str, Any]) -> None:
        content = {"long_tail": self._identity, "final": self.final, **more}
        self.write(SEARCH, json.dumps(content, indent=2) + "\n")

    @staticmethod
    def _name(space: TransferSpace, index: int) -> str:
        return f"{stable_hash(space)}-{index:06d}.json"


def scored_from_plain(plain: Mapping[str, Any]) -> ScoredSetting:
    """Return a scored setting from what `asdict` and JSON made of it."""
    values = dict(plain["setting"])
    values["thresholds"], values["terms"] = tuple(values["thresholds"]), tuple(values["terms"])
    return ScoredSetting(setting=TransferSetting(**values), accuracy=dict(plain["accuracy"]))
