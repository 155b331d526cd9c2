"""Writes an evaluation of long-tailed recognition to a folder or URI."""

import json
from collections.abc import Mapping
from typing import Any

from rayfs.errors import InputError
from rayfs.json_text import parse_json
from rayfs.redaction import without_secrets
from rayfs.runs.run_manifest import refuse_difference
from rayfs.runs.storage import Storage, explained, is_temporary

SUMMARY, ROWS, REPORT = "summary.json", "classes.parquet", "report.html"


def refuse_other_run(location: str, identity: Mapping[str, Any]) -> None:
    """Check, without writing, that `location` is empty or holds this evaluation.

    Raises:
        InputError: it cannot be read, or holds something else; names the first difference.
    """
    with explained(f"read {without_secrets(location)}"):
        storage = Storage.at(location)
        names = [name for name in storage.names() if not is_temporary(name)]
        former = storage.read(SUMMARY) if SUMMARY in names else None
    if not names:
        return
    try:
        identity_there = parse_json(former)["long_tail"] if former is not None else None
    except (ValueError, KeyError, TypeError):
        identity_there = None
    if identity_there is None:
        raise InputError(
            f"--out {without_secrets(location)} holds other files ('{names[0]}') and no evaluation of long-tailed "
            "recognition; give an empty or a new folder"
        )
    refuse_difference(identity_there, json.loads(json.dumps(identity)), without_secrets(location))


def write_evaluation(
    location: str, identity: Mapping[str, Any], information: Mapping[str, Any], summary: Mapping[str, Any],
    files: Mapping[str, str | bytes],
) -> None:  # fmt: skip
    """Write `files` and, last, summary.json with `identity` and `information` in it.

    Raises:
        InputError: the location cannot be written.
    """
    content = {"long_tail": identity, **summary, "session": information}
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with explained(f"write {without_secrets(location)}"):
        storage = Storage.at(location)
        storage.make_folder()
        for name, data in {**files, SUMMARY: text}.items():
            storage.write(name, data.encode() if isinstance(data, str) else data)
