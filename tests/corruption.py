"""Damage to files, and a limit for what must not wait: for tests of hostile and broken input."""

import threading
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

FUZZ = settings(max_examples=80, deadline=None, derandomize=True)
"""The same few examples in every run; raise max_examples by hand to search."""


def corruptions(whole: bytes) -> st.SearchStrategy[bytes]:
    """Draw `whole` cut off, with up to four bytes changed, or with a piece of itself put over or into another place."""
    places = st.integers(0, len(whole) - 1)

    def changed(changes: list[tuple[int, int]]) -> bytes:
        content = bytearray(whole)
        for place, value in changes:
            content[place] ^= value
        return bytes(content)

    def spliced(start: int, target: int, length: int, put_over: bool) -> bytes:
        return whole[:target] + whole[start : start + length] + whole[target + (length if put_over else 0) :]

    return st.one_of(
        places.map(lambda end: whole[:end]),
        st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=4).map(changed),
        st.builds(spliced, places, places, st.integers(1, 64), st.booleans()),
    )


def within_seconds(call: Callable[[], Any], limit: float = 10.0) -> Any:
    """Return what `call` returns or raise what it raises; fail if it takes longer, as one that waits for ever does."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((True, call()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    assert outcome, f"still waiting after {limit} s"
    returned, value = outcome[0]
    if not returned:
        raise value
    return value
