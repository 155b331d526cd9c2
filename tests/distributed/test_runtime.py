"""Which Ray a job joins, and how fast it says that there is none."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rayfs.distributed.session import _address, _start
from rayfs.errors import InputError


@pytest.fixture
def address_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which `ray start` leaves its address, in a folder of this test; RAY_ADDRESS is unset."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


def unused_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_without_a_cluster_a_private_one_starts(address_file: Path) -> None:
    assert _address() == "local"


def test_a_cluster_that_answers_on_this_machine_is_joined(address_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address_file.write_text(f"127.0.0.1:{server.getsockname()[1]}")
        assert _address() == address_file.read_text()


def test_the_address_of_a_cluster_that_died_is_passed_over(address_file: Path) -> None:
    address_file.write_text(f"127.0.0.1:{unused_port()}")
    started = time.monotonic()
    assert _address() == "local"
    assert time.monotonic() - started < 10


def test_ray_address_local_stays_private(address_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address_file.write_text(f"127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("RAY_ADDRESS", "local")
        assert _address() == "local"


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8265", "ray://head:10001", "head.invalid", "127.0.0.1:1", "auto"]
)
def test_an_address_without_a_cluster_is_one_error(address: str, address_file, monkeypatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=f"RAY_ADDRESS is '{address}' but no"):
        _address()


@pytest.mark.ray
@pytest.mark.slow
def test_a_private_cluster_leaves_no_token_behind(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    code = (
        "from rayfs.distributed.session import connect, cluster_resources; connect(); print(cluster_resources().cpus)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path), "RAY_ADDRESS": "local"},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert float(result.stdout) >= 1
    assert not (tmp_path / ".ray").exists()


@pytest.mark.parametrize(("n_cores", "n_cpus"), [(1, 2), (2, 2), (16, 16)])
def test_a_private_cluster_has_a_cpu_for_every_core_and_two_for_ray_data(n_cores, n_cpus, monkeypatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(n_cores)), raising=False)
    asked: dict = {}
    _start(SimpleNamespace(init=lambda **settings: asked.update(settings)), "local")
    assert asked["num_cpus"] == n_cpus


@pytest.mark.parametrize(
    ("said", "raised", "message"),
    [
        (
            "The current node timed out during startup. This could",
            InputError,
            "Ray did not start in its time: this mach",
        ),
        ("another", RuntimeError, "another"),
    ],
)
def test_a_private_cluster_that_does_not_start_in_time_is_one_error(said: str, raised: type, message: str) -> None:
    def init(**settings: object) -> None:
        raise RuntimeError(said)

    with pytest.raises(raised, match=message):
        _start(SimpleNamespace(init=init), "local")
