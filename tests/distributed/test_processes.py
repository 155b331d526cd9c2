"""Processes that are asked and answer, on a stand-in for Ray that notes what it is told."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from rayfs.distributed.processes import answers, ask_all, call_elsewhere, processes_of


class Sum:
    """An object that a process may hold."""

    def __init__(self, start: int) -> None:
        self._start = start

    def plus(self, more: int) -> int:
        if more < 0:
            raise ValueError(f"{more} is below 0")
        return self._start + more


class StandInRay:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def remote(self, what: Any) -> Any:
        def options(**settings: Any) -> Any:
            self.told.append(settings)
            return SimpleNamespace(remote=lambda *given: self.made(what, given))

        return SimpleNamespace(options=options)

    def made(self, what: Any, given: tuple[Any, ...]) -> Any:
        if not isinstance(what, type):
            return lambda: what(*given)
        held = what(*given)

        def call(more: int) -> Any:
            self.told.append(f"call {more}")
            return lambda: held.plus(more)

        return SimpleNamespace(plus=SimpleNamespace(remote=call))

    def get(self, pending: Any) -> Any:
        self.told.append("get")
        return [each() for each in pending] if isinstance(pending, list) else pending()

    def kill(self, actor: Any) -> None:
        self.told.append("kill")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> StandInRay:
    made = StandInRay()
    monkeypatch.setitem(sys.modules, "ray", made)
    return made


def test_processes_are_asked_at_once_answer_in_order_and_end_with_the_block(fake) -> None:
    with processes_of(Sum, [10], n=2, cpus=0.5, gpus=0.25, environment={"A": "b"}) as (first, second):
        assert first.ask("plus", 1) == 11
        assert ask_all([first, second], "plus", 2) == [12, 12]
        assert answers([second.start("plus", 3), first.start("plus", 4)]) == [13, 14]
    settings = {"num_cpus": 0.5, "num_gpus": 0.25, "runtime_env": {"env_vars": {"A": "b"}}}
    assert fake.told == [
        settings, "call 1", "get", "call 2", "call 2", "get", "call 3", "call 4", "get", "kill", "kill",
    ]  # fmt: skip


def test_processes_end_where_one_of_them_raises(fake) -> None:
    with pytest.raises(ValueError, match="-1 is below 0"), processes_of(Sum, [1], n=1, cpus=1) as (process,):
        process.ask("plus", -1)
    assert fake.told == [{"num_cpus": 1, "num_gpus": 0, "runtime_env": {}}, "call -1", "get", "kill"]


def test_a_function_is_called_elsewhere(fake) -> None:
    assert call_elsewhere(max, 3, 5, cpus=1, gpus=0.5) == 5
    assert fake.told == [{"num_cpus": 1, "num_gpus": 0.5}, "get"]
