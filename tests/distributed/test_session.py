"""One connection to Ray, and SIGTERM inside it: without Ray, which is stood in for by a handler as it installs one."""

import signal
from collections.abc import Iterator

import pytest

from rayfs.distributed import session as module
from rayfs.distributed.session import RaySession, Resources, ray_session
from rayfs.errors import Terminated


class RayEnded(Exception):
    """What Ray's own handler of SIGTERM does stands in for: the end of the process."""


def rays_handler(signal_number: int, frame: object) -> None:
    raise RayEnded


@pytest.fixture(autouse=True)
def former() -> Iterator[object]:
    """The handler of this process, which must be there again after each test."""
    before = signal.getsignal(signal.SIGTERM)
    yield before
    after = signal.signal(signal.SIGTERM, before)
    assert after is before


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the session connects to; connecting installs Ray's handler."""
    address = ["local"]

    def connect() -> str:
        signal.signal(signal.SIGTERM, rays_handler)
        return address[0]

    monkeypatch.setattr(module, "connect", connect)
    return address


def test_sigterm_is_an_interrupt_inside_a_session_although_ray_has_a_handler_of_its_own() -> None:
    with pytest.raises(Terminated), ray_session():
        signal.raise_signal(signal.SIGTERM)


def test_sigterm_while_ray_starts_is_an_interrupt_too(monkeypatch) -> None:
    monkeypatch.setattr(module, "connect", lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Terminated), ray_session():
        pytest.fail("Ray never started")


def test_sigterm_stays_sigterm_where_ray_makes_a_plain_interrupt_of_it() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, ray_session():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None
    assert isinstance(caught.value, Terminated)


def test_ctrl_c_stays_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, ray_session():
        raise KeyboardInterrupt
    assert not isinstance(caught.value, Terminated)


def test_sessions_follow_one_another_and_each_gives_sigterm_back(former) -> None:
    for _ in range(2):
        with ray_session():
            assert signal.getsignal(signal.SIGTERM) not in (former, rays_handler)
        assert signal.getsignal(signal.SIGTERM) is former


@pytest.mark.parametrize(("address", "is_private"), [("local", True), ("10.0.0.1:6379", False)])
def test_a_session_says_where_it_is_and_what_there_is_now(address, is_private, connected, monkeypatch) -> None:
    connected[0] = address
    nodes = iter([((1.0, 0.0),), ((1.0, 0.0), (8.0, 1.0))])
    monkeypatch.setattr(module, "cluster_resources", lambda: Resources(nodes=next(nodes)))
    with ray_session() as session:
        assert session == RaySession(address=address) and session.is_private == is_private
        assert [session.resources.cpus, session.resources.cpus] == [1, 9], "nodes join meanwhile"
