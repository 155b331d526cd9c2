"""The run directory: resume, refuse, survive kills, full disks and second writers."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from rayfs.errors import InputError
from rayfs.runs import lock
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import RowsNotSavedError, RunDirectory
from rayfs.runs.storage import Storage

MakeRow = Callable[..., Row]
IDENTITY = {"benchmark": "omniglot", "protocol": {"n_way": 5, "seed": 0}}
METHODS: dict[str, dict[str, Any]] = {"logistic-regression": {"c": 1.0}}

PRELUDE = """
import hashlib, resource, sys
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import RunDirectory

def row(episode, n_characters=0):
    noise = hashlib.shake_256(b"noise").hexdigest(n_characters // 2)
    return Row(episode=episode, method="logistic-regression", status="ok", accuracy=0.5, episode_hash=str(episode),
               config_hash="c", worker=noise)

run = RunDirectory(sys.argv[1]).open({"benchmark": "omniglot", "protocol": {"n_way": 5, "seed": 0}}, {}, {})
"""


def open_run(folder: Path | str, **changes: Any) -> RunDirectory:
    settings = {"identity": IDENTITY, "information": {"version": "0.1"}, "methods": METHODS} | changes
    return RunDirectory(str(folder)).open(**settings)


def writer_process(folder: Path, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRELUDE + code, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# Creating, resuming, reading


def test_a_run_is_a_manifest_parts_and_a_summary(tmp_path: Path, make_row: MakeRow) -> None:
    with open_run(tmp_path / "deep/run") as run:
        assert run.append([make_row(0), make_row(1)]) == 2
        assert run.append([make_row(2)]) == 1
        run.write_summary({"methods": {"é": None}})
        run.write_file("report.html", "<html>")
    assert files_of(tmp_path / "deep/run") == {
        ".lock",
        "manifest.json",
        "episodes/part-000000.parquet",
        "episodes/part-000001.parquet",
        "summary.json",
        "report.html",
    }
    manifest = json.loads((tmp_path / "deep/run/manifest.json").read_text())
    assert list(manifest) == ["format", "identity", "methods", "sessions"], "earlier versions read it"
    assert manifest["identity"] == IDENTITY
    assert manifest["methods"] == METHODS
    assert json.loads((tmp_path / "deep/run/summary.json").read_text()) == {"methods": {"é": None}}


def test_resume_knows_what_is_completed_and_numbers_parts_on(tmp_path: Path, make_row: MakeRow) -> None:
    with open_run(tmp_path) as run:
        run.append([make_row(0), make_row(1, accuracy=None)])
    with open_run(tmp_path) as run:
        assert run.completed() == {(0, "logistic-regression")}, "a failed episode is not completed"
        run.append([make_row(1, attempt=2)])
        assert run.completed() == {(0, "logistic-regression"), (1, "logistic-regression")}
    assert (tmp_path / "episodes/part-000001.parquet").exists()
    assert [row.status for row in RunDirectory(str(tmp_path)).rows()] == ["ok", "ok"]


def test_rows_and_completed_can_be_read_while_another_process_writes(tmp_path: Path, make_row: MakeRow) -> None:
    with open_run(tmp_path) as run:
        run.append([make_row(1), make_row(0)])
        reader = RunDirectory(str(tmp_path))
        assert [row.episode for row in reader.rows()] == [0, 1]
        assert reader.completed() == {(0, "logistic-regression"), (1, "logistic-regression")}


def test_a_late_duplicate_is_ignored(tmp_path: Path, make_row: MakeRow) -> None:
    with open_run(tmp_path) as run:
        run.append([make_row(0, accuracy=0.1)])
        assert run.append([make_row(0, accuracy=0.9), make_row(0, accuracy=None)]) == 0
        assert run.append([make_row(0, accuracy=0.9), make_row(1)]) == 1
        assert run.append([]) == 0
        assert [row.accuracy for row in run.rows()] == [0.1, 0.8]
    assert len(list((tmp_path / "episodes").iterdir())) == 2, "nothing new, no part"


def test_an_episode_that_failed_may_be_solved_by_the_same_writer(tmp_path: Path, make_row: MakeRow) -> None:
    with open_run(tmp_path) as run:
        assert run.append([make_row(0, accuracy=None)]) == 1
        assert run.completed() == set() and run.append([make_row(0)]) == 1
        assert [row.status for row in run.rows()] == ["ok"]


def test_tuples_and_number_keys_resume_as_json_gives_them_back(tmp_path: Path) -> None:
    identity = {"sizes": (1, 2), "k": {1: "a"}}
    open_run(tmp_path, identity=identity).close()
    open_run(tmp_path, identity=identity).close()
    manifest = RunDirectory(str(tmp_path)).manifest()
    assert manifest is not None and manifest["identity"] == {"sizes": [1, 2], "k": {"1": "a"}}


def test_new_methods_are_added_to_the_manifest(tmp_path: Path) -> None:
    open_run(tmp_path).close()
    open_run(tmp_path, methods={"cosine": {"scale": 10}}).close()
    manifest = RunDirectory(str(tmp_path)).manifest()
    assert manifest is not None
    assert manifest["methods"] == {"logistic-regression": {"c": 1.0}, "cosine": {"scale": 10}}


# Refusing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identity": {"benchmark": "omniglot", "protocol": {"n_way": 20, "seed": 0}}}, "n_way was 5 and is now 20"),
        ({"methods": {"logistic-regression": {"c": 3.0}}}, "methods.logistic-regression.c was 1.0 and is now 3.0"),
    ],
)
def test_another_run_is_refused_and_nothing_is_changed(tmp_path: Path, changes: dict, message: str) -> None:
    open_run(tmp_path).close()
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(InputError, match=message):
        open_run(tmp_path, **changes)
    assert (tmp_path / "manifest.json").read_bytes() == before
    open_run(tmp_path).close()  # and the lock is free


def test_a_folder_of_foreign_files_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(InputError, match=r"holds 1 files \(thesis.tex ...\) but no manifest.json"):
        open_run(tmp_path)
    assert files_of(tmp_path) == {"thesis.tex"}


def test_a_run_can_be_checked_without_writing_anything(tmp_path: Path) -> None:
    RunDirectory(str(tmp_path / "new")).refuse_other(IDENTITY, METHODS)
    assert list(tmp_path.iterdir()) == []
    with open_run(tmp_path / "run"):
        RunDirectory(str(tmp_path / "run")).refuse_other(IDENTITY, METHODS | {"cosine": {}})
        with pytest.raises(InputError, match=r"methods.logistic-regression.c was 1.0 and is now 2.0"):
            RunDirectory(str(tmp_path / "run")).refuse_other(IDENTITY, {"logistic-regression": {"c": 2.0}})
    with pytest.raises(InputError, match=r"but no manifest.json"):
        RunDirectory(str(tmp_path)).refuse_other(IDENTITY, METHODS)


def test_an_existing_empty_folder_is_welcome(tmp_path: Path) -> None:
    open_run(tmp_path).close()
    assert RunDirectory(str(tmp_path)).manifest() is not None


def test_a_writer_killed_before_its_manifest_does_not_make_the_folder_foreign(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".manifest.json.tmp").write_text("{")
    open_run(tmp_path).close()
    assert files_of(tmp_path) == {".lock", "manifest.json"}


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"name": "something else"}'])
def test_a_foreign_or_damaged_manifest_is_an_input_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest.json is not the manifest of a run"):
        open_run(tmp_path)


def test_reading_where_there_is_no_run_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no manifest.json: it is not a run directory"):
        RunDirectory(str(tmp_path / "nothing")).rows()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_location_that_cannot_be_a_folder_is_one_input_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write the run directory .*; check that the location exists"):
        open_run(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_input_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write the run directory"):
        open_run(tmp_path / "run")


@pytest.mark.slow
def test_an_unreachable_object_store_is_one_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    location = "s3://key:secret@bucket/run?endpoint_override=127.0.0.1:1&scheme=http&region=eu-west-1"
    with pytest.raises(InputError, match="cannot write the run directory s3://") as caught:
        open_run(location)
    assert "secret" not in str(caught.value)


# Damage and kills


def test_a_truncated_part_is_named_when_reading_and_when_resuming(tmp_path: Path, make_row: MakeRow) -> None:
    with open_run(tmp_path) as run:
        run.append([make_row(0)])
        run.append([make_row(1)])
    part = tmp_path / "episodes/part-000001.parquet"
    part.write_bytes(part.read_bytes()[:200])
    with pytest.raises(InputError, match=r"part-000001.parquet cannot be read"):
        RunDirectory(str(tmp_path)).rows()
    with pytest.raises(InputError, match=r"part-000001.parquet cannot be read"):
        open_run(tmp_path)
    part.unlink()
    with open_run(tmp_path) as run:
        assert run.completed() == {(0, "logistic-regression")}


def test_leftovers_of_a_killed_writer_are_deleted_on_open(tmp_path: Path, make_row: MakeRow) -> None:
    with open_run(tmp_path) as run:
        run.append([make_row(0)])
    (tmp_path / "episodes/.part-000001.parquet.tmp").write_bytes(b"half a part")
    (tmp_path / ".summary.json.tmp").write_bytes(b"{")
    assert RunDirectory(str(tmp_path)).completed() == {(0, "logistic-regression")}, "readers ignore them"
    with open_run(tmp_path):
        assert files_of(tmp_path) == {".lock", "manifest.json", "episodes/part-000000.parquet"}


def test_a_second_writer_in_another_process_is_refused(tmp_path: Path) -> None:
    first = writer_process(tmp_path, "print('open', flush=True); sys.stdin.read()")
    assert first.stdout is not None
    assert first.stdout.readline() == "open\n"
    with pytest.raises(InputError, match=rf"another process is writing this run \(pid {first.pid} on .*\)"):
        open_run(tmp_path)
    first.communicate()
    open_run(tmp_path).close()


def test_a_second_writer_in_this_process_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    with open_run(tmp_path), pytest.raises(InputError, match=f"pid {os.getpid()} on"):
        open_run(tmp_path)
    open_run(tmp_path).close()


def test_a_writer_killed_at_any_time_loses_at_most_the_part_it_was_writing(tmp_path: Path) -> None:
    acknowledged = 0
    for _ in range(3):
        code = """
start = max((episode for episode, _ in run.completed()), default=-1) + 1
for episode in range(start, 1000000):
    run.append([row(episode, 20000)])
    print(episode, flush=True)
"""
        process = writer_process(tmp_path, code)
        assert process.stdout is not None
        for _ in range(20):
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, process.communicate()[0].split())])
    with open_run(tmp_path) as run:
        episodes = [row.episode for row in run.rows()]
    assert episodes == list(range(len(episodes)))
    assert acknowledged + 1 <= len(episodes) <= acknowledged + 2
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_full_disk_names_the_unsaved_rows_and_keeps_the_earlier(tmp_path: Path) -> None:
    code = """
run.append([row(0), row(1)])
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
try:
    run.append([row(2, 100000), row(3), row(4), row(7)])
except Exception as error:
    print(type(error).__name__, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(run.append([row(2, 100000)]))
"""
    output, errors = writer_process(tmp_path, code).communicate()
    assert errors == ""
    message, written = output.splitlines()
    assert message.startswith("RowsNotSavedError 4 rows are not saved to ")
    assert "(logistic-regression: episodes 2-4, 7): " in message
    assert "rerun the same command" in message
    assert written == "1", "once there is room, writing goes on"
    assert files_of(tmp_path) == {
        ".lock",
        "manifest.json",
        "episodes/part-000000.parquet",
        "episodes/part-000001.parquet",
    }
    assert [row.episode for row in RunDirectory(str(tmp_path)).rows()] == [0, 1, 2]


def test_a_full_filesystem_of_64_kilobytes_keeps_all_acknowledged_rows(tmp_path: Path, make_row: MakeRow) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small filesystem needs root")
    try:
        saved = 0
        with open_run(tmp_path) as run:
            with pytest.raises(RowsNotSavedError, match=r"logistic-regression: episodes \d+\): .*No space left"):
                while saved < 100:
                    saved += run.append([make_row(saved)])
            assert 0 < saved < 100
            assert [row.episode for row in run.rows()] == list(range(saved))
            assert not list(tmp_path.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# Other filesystems


def test_a_run_behind_another_filesystem_resumes_alike(make_row: MakeRow, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, root = fs.FileSystem.from_uri("mock:///bucket/run")
    monkeypatch.setattr(Storage, "at", lambda location: Storage(bucket, root))
    with open_run("s3://bucket/run") as run:
        run.append([make_row(0)])
        run.write_summary({})
    with open_run("s3://bucket/run") as run:
        assert run.completed() == {(0, "logistic-regression")}
        run.append([make_row(0), make_row(1)])
        assert [row.episode for row in run.rows()] == [0, 1]
    with pytest.raises(InputError, match=r"benchmark was \"omniglot\" and is now \"cub\""):
        open_run("s3://bucket/run", identity={"benchmark": "cub"})


# Writing beside the rows of a run that is there


def test_a_run_can_be_reopened_without_changing_its_manifest(tmp_path: Path, make_row: MakeRow) -> None:
    with open_run(tmp_path) as run:
        run.append([make_row(0)])
    before = (tmp_path / "manifest.json").read_bytes()
    with RunDirectory(str(tmp_path)).reopen() as run:
        run.write_file("report.html", "<html>")
        assert run.completed() == {(0, "logistic-regression")}
        with pytest.raises(InputError, match="another process is writing this run"):
            RunDirectory(str(tmp_path)).reopen()
    assert (tmp_path / "manifest.json").read_bytes() == before
    assert (tmp_path / "report.html").read_text() == "<html>"
    open_run(tmp_path).close()  # and the lock is free


def test_reopening_where_there_is_no_run_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no manifest.json: it is not a run directory"):
        RunDirectory(str(tmp_path / "nothing")).reopen()
    assert list(tmp_path.iterdir()) == []


def test_a_run_knows_when_its_parts_were_written(tmp_path: Path, make_row: MakeRow) -> None:
    with open_run(tmp_path) as run:
        assert run.written_at() is None
        for i in range(3):
            run.append([make_row(i)])
    for i, second in enumerate((300, 100, 200)):
        os.utime(tmp_path / f"episodes/part-00000{i}.parquet", (second, second))
    dates = RunDirectory(str(tmp_path)).written_at()
    assert dates is not None and [date.timestamp() for date in dates] == [100, 300]


@pytest.mark.parametrize("code", [errno.EWOULDBLOCK, errno.EACCES])
def test_both_ways_to_say_that_a_lock_is_held_are_understood(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network filesystems that make a lock of bytes of it say EACCES."""

    def held(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / ".lock").write_text("7 on another\n")
    monkeypatch.setattr(lock.fcntl, "flock", held)
    with pytest.raises(InputError, match=r"another process is writing this run \(pid 7 on another\)"):
        open_run(tmp_path)


def test_a_filesystem_without_locks_is_warned_of_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", absent)
    with pytest.warns(RuntimeWarning, match=r"cannot be locked .*; make sure that only one process writes this run"):
        open_run(tmp_path).close()
