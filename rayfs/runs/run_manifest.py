"""What a run directory is a run of: the comparison that lets a run resume only as itself."""

from collections.abc import Mapping
from typing import Any

from rayfs.errors import InputError
from rayfs.hashing import canonical_json

FORMAT = 1
"""Version of the layout of a run directory."""

EPISODES = "episodes"
"""The kind of run that its manifest does not name: the only one there was."""

_ABSENT = "(absent)"


def merge_manifest(
    existing: dict[str, Any] | None,
    *,
    identity: dict[str, Any],
    information: dict[str, Any],
    methods: dict[str, dict[str, Any]],
    location: str,
    kind: str = EPISODES,
) -> dict[str, Any]:
    """Return the manifest of a new run, or of `existing` resumed with perhaps more methods.

    `sessions` holds the information of every opening, oldest first, repeats dropped. All values must already be plain
    JSON values.

    Raises:
        InputError: if the format, the identity or the config of a known method differs, naming the first difference.
    """
    if existing is None:
        of_kind = {} if kind == EPISODES else {"kind": kind}
        return {"format": FORMAT, **of_kind, "identity": identity, "methods": methods, "sessions": [information]}
    refuse_difference(existing.get("format"), FORMAT, location, "format")
    refuse_other_kind(existing, kind, location)
    refuse_difference(existing["identity"], identity, location)
    for name in sorted(methods.keys() & existing["methods"].keys()):
        refuse_difference(existing["methods"][name], methods[name], location, f"methods.{name}")
    sessions = existing["sessions"]
    return {
        **existing,
        "methods": {**existing["methods"], **methods},
        "sessions": sessions if sessions[-1:] == [information] else [*sessions, information],
    }


def refuse_other_kind(manifest: Mapping[str, Any], kind: str, location: str) -> None:
    """Refuse the manifest of a run of another kind than `kind`.

    Raises:
        InputError: names both.
    """
    found = manifest.get("kind", EPISODES)
    if found != kind:
        raise InputError(
            f"{location} is a run directory of another kind: its rows are of '{found}', expected '{kind}'; give "
            "another directory"
        )


def first_difference(former: Any, now: Any, path: str = "") -> tuple[str, str, str] | None:
    """Return (dotted path, former value, present value) of the first difference in key order, or None.

    1 and 1.0 differ, as they do in every config hash.
    """
    if isinstance(former, dict) and isinstance(now, dict):
        for key in sorted(former.keys() | now.keys()):
            inner = f"{path}.{key}" if path else key
            if key not in former or key not in now:
                return inner, _text(former.get(key, _ABSENT)), _text(now.get(key, _ABSENT))
            if difference := first_difference(former[key], now[key], inner):
                return difference
        return None
    if isinstance(former, list) and isinstance(now, list) and len(former) == len(now):
        pairs = enumerate(zip(former, now, strict=True))
        return next((d for i, (a, b) in pairs if (d := first_difference(a, b, f"{path}.{i}"))), None)
    return None if canonical_json(former) == canonical_json(now) else (path, _text(former), _text(now))


def _text(value: Any) -> str:
    text = value if value is _ABSENT else canonical_json(value)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text):,} characters)"


def refuse_difference(former: Any, now: Any, location: str, path: str = "") -> None:
    """Raise an InputError that names the first difference of what the run at `location` was and is asked to be now."""
    if difference := first_difference(former, now, path):
        path, former, now = difference
        raise InputError(
            f"{location} holds a run with other settings: {path} was {former} and is now {now}; "
            "use another --out or the former settings"
        )
