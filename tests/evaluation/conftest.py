"""Rows for the tests of rayfs.evaluation."""

from collections.abc import Callable
from typing import Any

import pytest

from rayfs.evaluation.rows import Row


@pytest.fixture(scope="session")
def make_row() -> Callable[..., Row]:
    """Return a function that makes an ok row (or, given accuracy=None, a failed one)."""

    def make(episode: int = 0, method: str = "lr", accuracy: float | None = 0.8, **fields: Any) -> Row:
        failed = {"error": "Traceback: boom"} if accuracy is None else {"predictions": [0, 1, 2], "labels": [0, 1, 1]}
        defaults = {
            "status": "failed" if accuracy is None else "ok",
            "seconds": 1.5,
            "episode_hash": f"hash-{episode}",
            "config_hash": f"config-{method}",
        }
        return Row(**({"episode": episode, "method": method, "accuracy": accuracy} | defaults | failed | fields))

    return make
