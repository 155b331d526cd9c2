"""Secrets are taken out of every text that is stored or shown: of URIs, and the values of environment variables."""

import os
import re
from typing import Any

STARS = "***"

_CREDENTIALS = re.compile(r"://(?:[^/@\s:]*:(?!\d+(?:/|$))\S*|[^/@\s]+)@")
"""`user:password@` or `token@` behind `://`; a password may hold slashes, a port may not be taken for one."""

_PARAMETER = re.compile(
    r"\b([\w.-]*(?:secret|token|password|passwd|credential|signature|(?:access|api|account|private)[_-]?key)[\w.-]*)"
    r"=(?!\*\*\*)[^&\s'\",;)]+",
    re.IGNORECASE,
)
"""`secret_key=...` of a URI's query or an assignment, `--token=...`."""

_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|(?:ACCESS|API|ACCOUNT|PRIVATE)_?KEY", re.IGNORECASE)
_FILE_NAME = re.compile(r"_(PATH|FILE|DIR)$", re.IGNORECASE)

MIN_SECRET = 8
"""Shorter values of environment variables are words that could stand anywhere ("none", "true")."""


def without_secrets(text: str) -> str:
    """Return `text` with stars for credentials in URIs, for parameters with a secret's name, and for secrets' values.

    A secret's value is that of an environment variable whose name says so (AWS_SECRET_ACCESS_KEY, RAY_AUTH_TOKEN),
    but not that a file holds it (AWS_WEB_IDENTITY_TOKEN_FILE).
    """
    for value in _environment_secrets():
        text = text.replace(value, STARS)
    text = _CREDENTIALS.sub(f"://{STARS}@", text)
    return _PARAMETER.sub(rf"\1={STARS}", text)


def without_secrets_inside(value: Any) -> Any:
    """Return nested dicts, lists and tuples with `without_secrets` of every text."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {key: without_secrets_inside(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets_inside(item) for item in value]
    return value


def _environment_secrets() -> list[str]:
    """Return the values to hide, longest first, so that none is left over of one that contains another."""
    named = [value for name, value in os.environ.items() if _SECRET_NAME.search(name) and not _FILE_NAME.search(name)]
    return sorted((value for value in named if len(value) >= MIN_SECRET), key=len, reverse=True)
