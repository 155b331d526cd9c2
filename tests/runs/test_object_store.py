"""Runs in an object store: a real S3-compatible server on this machine, which can be told to fail."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from uuid import UUID

import pytest
from pyarrow import fs

from rayfs.errors import InputError
from rayfs.experiments.comparison.flags import CompareConfig
from rayfs.experiments.comparison.job import run_compare
from rayfs.experiments.report.flags import ReportConfig
from rayfs.experiments.report.job import run_report
from rayfs.flags.command_line import run_job
from rayfs.runs import lock
from rayfs.runs.lock import LEASE, WriterLease
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import RowsNotSavedError, RunDirectory
from rayfs.runs.storage import Storage

pytest.importorskip("moto.server", reason="the S3 server of these tests is moto: pip install 'rayfs[test]'")

MakeRow = Callable[..., Row]
SECRET = "Tr0ub4dorAndThree"
IDENTITY = {"benchmark": "omniglot", "protocol": {"n_way": 5, "seed": 0}}
METHODS: dict[str, dict[str, Any]] = {"logistic-regression": {"c": 1.0}, "label-halluc": {}}

WRITER = """
import sys
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import RunDirectory

run = RunDirectory(sys.argv[1]).open({"benchmark": "omniglot", "protocol": {"n_way": 5, "seed": 0}}, {}, {})
for episode in range(2):
    row = Row(
        episode=episode, method="logistic-regression", status="ok", accuracy=0.5, episode_hash="e",
        config_hash="config-logistic-regression",
    )  # fmt: skip
    run.append([row])
    print("written", flush=True)
"""


class Server:
    """moto's S3 behind a gate: requests for which `stopped` is true wait for `released`, then fail."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Silent(WSGIRequestHandler):
            def log(self, *arguments: Any) -> None:
                pass

        self._s3 = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._gate, threaded=True, request_handler=Silent)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.open()

    def open(self) -> None:
        """Let every request through."""
        self.stopped: Callable[[str, str], bool] = lambda method, url: False
        self.seen, self.released = threading.Event(), threading.Event()
        self.released.set()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def location(self, folder: str = "bucket/run", user: str = f"writer:{SECRET}@") -> str:
        return f"s3://{user}{folder}?endpoint_override={self.address}&scheme=http&region=us-east-1"

    def _gate(self, environ: dict[str, Any], start_response: Any) -> Any:
        if self.stopped(environ["REQUEST_METHOD"], f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"):
            self.seen.set()
            self.released.wait(30)
            start_response("403 Forbidden", [("Content-Length", "0")])
            return [b""]
        return self._s3(environ, start_response)


@pytest.fixture(scope="session")
def one_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    urlopen(Request(f"http://{one_server.address}/moto-api/reset", method="POST")).close()
    bucket, _ = fs.FileSystem.from_uri(one_server.location() + "&allow_bucket_creation=true")
    bucket.create_dir("bucket")
    yield one_server
    one_server.open()


def open_run(location: str, **changes: Any) -> RunDirectory:
    return RunDirectory(location).open(**{"identity": IDENTITY, "information": {}, "methods": METHODS} | changes)


def files(server: Server, folder: str = "bucket") -> dict[str, bytes]:
    """Return everything that the bucket shows."""
    storage = Storage.at(server.location(folder))
    found = storage.filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
    names = [file.path.removeprefix(f"{folder}/") for file in found if file.type == fs.FileType.File]
    return {name: storage.read(name) for name in names}


def leases(server: Server) -> list[str]:
    return [name for name in Storage.at(server.location()).names() if name.startswith(LEASE)]


def is_part_upload(method: str, url: str) -> bool:
    return method in ("PUT", "POST") and "/episodes/part-" in url


def writer_process(location: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, location], stdout=subprocess.PIPE, text=True)


# Writing, reading, resuming


def test_a_run_is_written_read_back_and_resumed_with_missing_episodes_only(server: Server, make_row: MakeRow) -> None:
    with open_run(server.location()) as run:
        assert run.append([make_row(0), make_row(1, accuracy=None)]) == 2
        run.write_file("report.html", "<html>")
    with open_run(server.location()) as run:
        assert run.completed() == {(0, "logistic-regression")}
        assert run.append([make_row(0), make_row(1, attempt=2)]) == 1
        assert [(row.episode, row.status) for row in run.rows()] == [(0, "ok"), (1, "ok")]
        assert run.read_file("report.html") == b"<html>"
        assert run.written_at() is not None
    assert files(server, "bucket/run").keys() == {
        "manifest.json",
        "report.html",
        "episodes/part-000000.parquet",
        "episodes/part-000001.parquet",
    }, "and the lease is gone"
    with pytest.raises(InputError, match=r"benchmark was \"omniglot\" and is now \"cub\""):
        open_run(server.location(), identity={"benchmark": "cub"})


def test_the_comparison_and_the_report_take_a_run_in_a_bucket(
    server: Server, make_row: MakeRow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("bucket/a", "bucket/b"):
        with open_run(server.location(folder)) as run:
            run.append([make_row(i, method, accuracy=i / 4) for i in range(3) for method in METHODS])
    locations = [server.location("bucket/a"), server.location("bucket/b")]
    assert run_job(run_compare, CompareConfig, "", [*locations, "--json", str(tmp_path / "figures.json")]) == 0
    assert run_job(run_report, ReportConfig, "", [locations[0]]) == 0
    assert run_job(run_report, ReportConfig, "", [locations[1], "--out", str(tmp_path / "b.html")]) == 0
    stored = files(server)
    assert {f"a/{name}" for name in ("report.html", "table.csv", "table.md", "table.tex")} <= stored.keys()
    assert "b/report.html" not in stored
    shown = "".join(capsys.readouterr())
    assert "s3://***@bucket/a" in shown
    written = [*stored.values(), *(path.read_bytes() for path in tmp_path.iterdir()), shown.encode()]
    assert len(written) > 10
    assert not [content for content in written if SECRET.encode() in content]


# Uploads that end half-way


def test_a_failed_upload_is_named_shows_nothing_and_can_be_repeated(server: Server, make_row: MakeRow) -> None:
    with open_run(server.location()) as run:
        run.append([make_row(0)])
        server.stopped = is_part_upload
        with pytest.raises(
            RowsNotSavedError, match=r"1 rows are .*\(logistic-regression: episodes 1\): .*ACCESS_DENIED"
        ) as caught:
            run.append([make_row(1)])
        assert SECRET not in str(caught.value)
        server.open()
        assert RunDirectory(server.location()).completed() == {(0, "logistic-regression")}
        assert run.append([make_row(1)]) == 1
        assert [row.episode for row in run.rows()] == [0, 1]


def test_a_large_upload_that_breaks_after_its_first_piece_keeps_the_former_content(server: Server) -> None:
    storage = Storage.at(server.location())
    storage.write("a", b"former")
    server.stopped = lambda method, url: "partNumber=2" in url
    with pytest.raises(OSError, match="ACCESS_DENIED during UploadPart"):
        storage.write("a", bytes(12_000_000))
    assert server.seen.is_set()
    server.open()
    assert storage.names() == ["a"]
    assert storage.read("a") == b"former"


def test_a_stream_that_raises_in_mid_write_is_not_completed(server: Server) -> None:
    storage = Storage.at(server.location())
    storage.write("a", b"former")
    streams = []

    class Breaking:
        """Takes half of what it is given, then raises."""

        type_name = "s3"

        def open_output_stream(self, path: str) -> "Breaking":
            streams.append(storage.filesystem.open_output_stream(path))
            return self

        def write(self, data: bytes) -> None:
            streams[0].write(data[: len(data) // 2])
            raise OSError("connection lost")

        def __enter__(self) -> "Breaking":
            return self

        def __exit__(self, *error: object) -> None:
            self.close()

        def close(self) -> None:
            streams[0].close()

        def delete_file(self, path: str) -> None:
            storage.filesystem.delete_file(path)

    with pytest.raises(OSError, match="connection lost"):
        Storage(Breaking(), storage.root).write("a", b"0123456789")
    assert storage.read("a") == b"former"
    streams[0].close()  # else it waits for this server when it is collected, and the server for the interpreter


def test_a_writer_killed_in_mid_upload_leaves_no_part_and_its_run_goes_on_at_once(
    server: Server, make_row: MakeRow
) -> None:
    server.released.clear()
    server.stopped = lambda method, url: method == "POST" and "part-000001" in url and "uploadId" in url  # its end
    process = writer_process(server.location())
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    assert server.seen.wait(20)
    process.kill()
    process.communicate()  # reaps it: a zombie counts as alive
    server.released.set()
    server.open()
    assert RunDirectory(server.location()).completed() == {(0, "logistic-regression")}
    with pytest.warns(RuntimeWarning, match=rf"took over from a dead driver \(pid {process.pid} on "):
        run = open_run(server.location())
    with run:
        run.append([make_row(1)])
        assert [row.episode for row in run.rows()] == [0, 1]
    assert leases(server) == []


# Two drivers


def test_a_second_driver_is_refused_and_told_of_the_first(server: Server) -> None:
    with open_run(server.location()):
        for write in (lambda: open_run(server.location()), lambda: RunDirectory(server.location()).reopen()):
            with pytest.raises(InputError, match=rf"\(pid {os.getpid()} on .*rerun in \d+ s") as caught:
                write()
            assert SECRET not in str(caught.value)
        assert len(leases(server)) == 1, "the refused driver leaves none"
        assert b"claiming" not in files(server, "bucket/run")[leases(server)[0]], "nobody waits for it to give way"
        RunDirectory(server.location()).refuse_other(IDENTITY, METHODS)  # --check needs no lease
    open_run(server.location()).close()


def test_of_drivers_that_start_at_once_exactly_one_writes(server: Server) -> None:
    def start(_: int) -> WriterLease | None:
        try:
            return WriterLease(Storage.at(server.location()), "run")
        except InputError:
            return None

    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            held = [lease for lease in pool.map(start, range(4)) if lease is not None]
        assert len(held) == 1
        for lease in held:
            lease.release()
    assert leases(server) == []


def test_a_claim_waits_for_claims_whose_names_sort_behind_its_own_and_for_nothing_else(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, before, behind = Storage.at(server.location()), f"{LEASE}{0:032x}", f"{LEASE}{9:032x}"
    monkeypatch.setattr(lock.uuid, "uuid4", lambda: UUID(int=5))
    for other, state in ((before, "claiming\n"), (before, ""), (behind, "")):
        storage.write(other, f"1 on elsewhere\nboot\n{state}".encode())
        started = time.monotonic()
        with pytest.raises(InputError, match=r"another process is writing this run \(pid 1 on elsewhere\)"):
            WriterLease(storage, "run")
        assert leases(server) == [other] and time.monotonic() - started < lock.CLAIM_S / 2, "refused at once"
        storage.delete(other)
    storage.write(behind, b"1 on elsewhere\nboot\nclaiming\n")
    with ThreadPoolExecutor(1) as pool:
        claim = pool.submit(WriterLease, storage, "run")
        with pytest.raises(TimeoutError):
            claim.result(timeout=1)
        storage.delete(behind)
        claim.result(timeout=20).release()
    monkeypatch.setattr(lock, "CLAIM_S", 0.5)
    storage.write(behind, b"1 on elsewhere\nboot\nclaiming\n")
    with pytest.raises(InputError, match="another process is writing this run"):
        WriterLease(storage, "run")


def test_a_lease_of_another_machine_is_taken_over_once_it_is_not_renewed(
    server: Server, monkeypatch: pytest.MonkeyPatch, make_row: MakeRow
) -> None:
    with open_run(server.location()) as silent:
        silent.append([make_row(0)])
        monkeypatch.setattr(lock, "_processes", lambda: "another machine")
        with pytest.raises(InputError, match="another process is writing this run"):
            open_run(server.location())
        monkeypatch.setattr(lock, "EXPIRED_S", 0.0)
        with pytest.warns(RuntimeWarning, match=r"took over from a dead driver \(pid \d+ on .*, last heard \d+ s ago"):
            successor = open_run(server.location())
        with successor, pytest.raises(InputError, match="another driver took over the run"):
            silent.append([make_row(1)])  # it wakes up
        with pytest.raises(InputError, match="another driver took over the run"):
            silent.write_file("report.html", "<html>")
    assert RunDirectory(server.location()).completed() == {(0, "logistic-regression")}


def test_a_driver_renews_its_lease(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    renewals = threading.Semaphore(0)
    storage = Storage.at(server.location())
    write = storage.write
    monkeypatch.setattr(storage, "write", lambda name, data: (write(name, data), renewals.release()))
    monkeypatch.setattr(lock, "RENEWED_S", 0.05)
    lease = WriterLease(storage, "run")
    assert all(renewals.acquire(timeout=20) for _ in range(3))
    lease.release()
    assert leases(server) == []


# Wrong input: exit code 2 and one message


def refusal(location: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run_job(run_report, ReportConfig, "", [location]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert SECRET not in err
    return err.strip()


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("nosuch://bucket/run", "'nosuch://bucket/run' is not a location that pyarrow can open: Unrecognized"),
        ("s3:///run", "'s3:///run' is not a location that pyarrow can open: Missing bucket name in S3 URI"),
        ("s3://bucket/run?x=1", "is not a location that pyarrow can open: Unexpected query parameter in S3 URI: 'x'"),
        (f"s3://a:{SECRET}@bucket/my run", "'s3://***@bucket/my run' is not a location that pyarrow can open: Cannot"),
    ],
)  # fmt: skip
def test_a_wrong_uri_is_refused(location: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refusal(location, capsys)


def test_a_missing_bucket_is_named_before_reading_and_writing(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "there is no bucket 'typo' of typo/run; create it, or correct its name"
    assert refusal(server.location("typo/run"), capsys) == f"error: {message}"
    with pytest.raises(InputError, match=message):
        open_run(server.location("typo/run"))
    assert "has no manifest.json: it is not a run directory" in refusal(server.location("bucket/typo"), capsys)


def test_refused_credentials_are_said_and_not_shown(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto import settings

    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)  # it knows no user
    message = refusal(server.location(), capsys)
    monkeypatch.undo()
    assert message.startswith("error: cannot read the run directory s3://***@bucket/run?")
    assert "INVALID_ACCESS_KEY" in message
    assert message.endswith("and, for a URI, the network and the credentials")


@pytest.mark.parametrize("answers", ["refuses connections", "takes connections and is silent"])
def test_an_unreachable_endpoint_is_given_up_within_half_a_minute(
    answers: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = 1 if answers == "refuses connections" else silent.getsockname()[1]
        location = f"s3://a:{SECRET}@bucket/run?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        with ThreadPoolExecutor(1) as pool:
            message = pool.submit(refusal, location, capsys).result(timeout=30)
    assert message.startswith("error: cannot read the run directory s3://***@bucket/run?")
    assert "NETWORK_CONNECTION" in message
