"""Stable hashes: the same value gives the same text on every machine, Python and library version."""

import dataclasses
import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Write `value` (dataclasses, dicts, lists, tuples and scalars) as JSON with sorted keys and no spaces."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def stable_hash(value: Any, n_hex: int = 16) -> str:
    """Return the first `n_hex` hexadecimal digits of the BLAKE2b hash of the canonical JSON of `value`."""
    return digest(canonical_json(value).encode(), n_hex=n_hex)


def digest(data: bytes, n_hex: int = 16) -> str:
    """Return the first `n_hex` (even) hexadecimal digits of the BLAKE2b hash of `data`."""
    return hashlib.blake2b(data, digest_size=n_hex // 2).hexdigest()
