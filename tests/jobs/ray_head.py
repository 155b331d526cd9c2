"""A head node of a test's own, started as users start one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

RAY = str(Path(sys.executable).with_name("ray"))


@contextmanager
def ray_head(environment: Mapping[str, str], *flags: str) -> Iterator[tuple[str, Path]]:
    """Run `ray start --head` with two CPUs and `flags`; yields its dashboard's address and its folder."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: socket paths end at 107 characters
    port, dashboard = free_port(), free_port()
    start = [RAY, "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}", *flags]
    start += ["--dashboard-agent-listen-port=0", "--num-cpus=2", f"--temp-dir={folder}", "--disable-usage-stats"]
    with (folder / "start.log").open("w") as log:
        process = subprocess.Popen(start, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{dashboard}/api/version")
        while not (folder / "ray_current_cluster").exists() and process.poll() is None:
            time.sleep(0.2)
        yield f"http://127.0.0.1:{dashboard}", folder
    finally:
        kill_below(folder)  # SIGTERM would drain the node for half a minute
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def address_of(folder: Path) -> str:
    """Return what RAY_ADDRESS is to be for the head of a folder."""
    return (folder / "ray_current_cluster").read_text().strip()


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_for(url: str) -> None:
    """Wait up to three minutes until `url` answers."""
    for _ in range(360):
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"{url} does not answer")


def kill_below(folder: Path) -> None:
    """Kill every process that was started with `folder` on its command line: the daemons of one head node."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)
        except (OSError, ProcessLookupError):
            continue
