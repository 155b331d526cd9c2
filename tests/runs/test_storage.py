"""Whole files or nothing, on the local disk and behind other filesystems."""

import os
from pathlib import Path

import pytest
from pyarrow import fs

from rayfs.errors import InputError
from rayfs.runs.storage import Storage, explained, location_below


def test_a_local_path_and_its_uri_are_one_place(tmp_path: Path) -> None:
    Storage.at(str(tmp_path)).write("a.txt", b"one")
    storage = Storage.at(tmp_path.as_uri())
    assert storage.is_local
    assert storage.read("a.txt") == b"one"


def test_a_path_may_be_relative_or_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Storage.at("runs/a").root == Storage.at("~/runs/a").root == str(tmp_path / "runs/a")


@pytest.mark.parametrize("location", ["", "nosuch://bucket/run", "file:///a b"])
def test_a_location_without_a_filesystem_is_an_input_error(location: str) -> None:
    with pytest.raises(InputError, match=r"s3://bucket/run|is not a location"):
        Storage.at(location)


def test_credentials_of_a_uri_are_never_shown() -> None:
    with pytest.raises(InputError) as caught:
        Storage.at("nosuch://key:secret@bucket/run")
    assert "secret" not in str(caught.value)


def test_writing_replaces_the_whole_file_and_leaves_no_other(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))
    storage.write("a.txt", b"a longer first content")
    storage.write("a.txt", b"second")
    assert storage.read("a.txt") == b"second"
    assert storage.names() == ["a.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_write_keeps_the_former_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    storage = Storage.at(str(tmp_path))
    storage.write("a.txt", b"first")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync", fail), "replace": (Path, "replace", fail)}[step])
    with pytest.raises(OSError, match="No space left"):
        storage.write("a.txt", b"second")
    assert storage.names() == ["a.txt"]
    assert storage.read("a.txt") == b"first"


def test_other_filesystems_read_write_and_list_alike(tmp_path: Path) -> None:
    storage = Storage(*fs.FileSystem.from_uri("mock:///bucket/run"))
    assert not storage.is_local
    assert storage.names() == []
    storage.make_folder("episodes")
    storage.write("episodes/a", b"one")
    storage.write("episodes/.b.tmp", b"half")
    storage.delete_temporary_files("episodes")
    assert storage.names("episodes") == ["a"]
    assert storage.read("episodes/a") == b"one"


def test_a_failing_upload_leaves_no_object(tmp_path: Path) -> None:
    class BreakingStream:
        def __enter__(self) -> "BreakingStream":
            (tmp_path / "a").write_bytes(b"half")
            return self

        def __exit__(self, *error: object) -> None:
            raise OSError("connection lost")

        def write(self, data: bytes) -> None:
            pass

    class BreakingFileSystem:
        type_name = "breaking"

        def open_output_stream(self, path: str) -> BreakingStream:
            return BreakingStream()

        def delete_file(self, path: str) -> None:
            Path(path).unlink()

    with pytest.raises(OSError, match="connection lost"):
        Storage(BreakingFileSystem(), str(tmp_path)).write("a", b"whole")
    assert list(tmp_path.iterdir()) == []


def test_storage_errors_become_one_message_with_a_fix() -> None:
    with pytest.raises(InputError, match="cannot write x: gone; check that the location exists"), explained("write x"):
        raise OSError("gone")


@pytest.mark.parametrize(
    ("location", "below"),
    [
        ("runs/a", "runs/a/5-shot"),
        ("runs/a/", "runs/a/5-shot"),
        ("runs/what?", "runs/what?/5-shot"),
        ("s3://bucket/run", "s3://bucket/run/5-shot"),
        ("s3://bucket/run/?region=eu&x=a/b", "s3://bucket/run/5-shot?region=eu&x=a/b"),
    ],
)
def test_a_folder_below_a_location_keeps_the_options_of_a_uri_at_its_end(location, below) -> None:
    assert location_below(location, "5-shot") == below
