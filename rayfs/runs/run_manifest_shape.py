"""What a manifest must look like for those who read it: anyone may have edited the file, or the disk."""

from collections.abc import Iterator
from typing import Any

from rayfs.errors import InputError
from rayfs.json_text import parse_json
from rayfs.methods.registry import with_canonical_names
from rayfs.runs.run_manifest import EPISODES

_PARTS = {"format": int, "identity": dict, "methods": dict, "sessions": list}
_OPTIONAL = (
    ("kind", str),
    ("confirmed", dict),
    ("confirmed.base_table", str),
    ("methods.*", dict),
    ("sessions.*", dict),
    ("sessions.*.command", list),
    ("sessions.*.versions", dict),
)
"""What readers take for an object, list, text or number wherever it is there; `*` is every member."""

_OF_EPISODES = (
    ("identity.novel_table", str),
    ("identity.protocol", dict),
    ("identity.backbone", dict),
    ("identity.base", dict),
    ("identity.base.n_images", int),
    ("identity.base.classes", list),
)
"""The same of runs of episodes; the identities of other kinds are compared and not read."""

_KINDS = {int: "an integer", dict: "an object", list: "a list", str: "a text"}


def parse_manifest(content: bytes, path: str) -> dict[str, Any]:
    """Return the manifest in `content`, methods under their proper names; `path` is the file's, for messages.

    Raises:
        InputError: it is no JSON, no manifest, or a part of it is not what readers take it for; names the first.
    """
    try:
        manifest = parse_json(content)
    except ValueError as error:
        raise InputError(f"{path} is not the manifest of a run: {error}; use another --out") from error
    if not isinstance(manifest, dict) or not manifest.keys() >= _PARTS.keys():
        found = f"has the keys {sorted(manifest)}" if isinstance(manifest, dict) else f"is {_said(manifest)}"
        raise InputError(f"{path} is not the manifest of a run: it {found}; use another --out")
    of_kind = _OF_EPISODES if manifest.get("kind", EPISODES) == EPISODES else ()
    for dotted, kind in (*_PARTS.items(), *_OPTIONAL, *of_kind):
        for name, value in _found(manifest, dotted.split(".")):
            if not isinstance(value, kind) or isinstance(value, bool):
                raise InputError(
                    f"{path} is damaged: {name} is {_said(value)}, expected {_KINDS[kind]}; restore the file, or use "
                    "another --out"
                )
    return {**manifest, "methods": with_canonical_names(manifest["methods"])}


def _found(value: Any, names: list[str], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of all that the names lead to."""
    if not names:
        yield above, value
        return
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in inside:
        if names[0] in ("*", key):
            yield from _found(inner, names[1:], f"{above}.{key}" if above else str(key))


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}... ({len(text):,} characters)"
