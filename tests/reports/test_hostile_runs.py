"""Run directories that are broken, of another run, or made to harm: read exactly, or refused with one message."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from corruption import FUZZ, corruptions, within_seconds
from hypothesis import given
from pyarrow import parquet
from report_run import PROTOCOL, answers, characters, draw, write_run

from rayfs.datasets.episode_file import encode_episode_file
from rayfs.datasets.image_table import ImageTable
from rayfs.errors import InputError
from rayfs.reports.episodes.build import build_report
from rayfs.reports.episodes.head import run_report
from rayfs.reports.render import render
from rayfs.runs.episode_rows import EPISODES
from rayfs.runs.parts import encode_part, part_name, read_part
from rayfs.runs.rows import SCHEMA, Row
from rayfs.runs.run_directory import RunDirectory
from rayfs.runs.storage import Storage
from rayfs.statistics.compared_run import read_run

MakeRow = Callable[..., Row]
IDENTITY = {"benchmark": "omniglot", "protocol": {"n_way": 5, "seed": 0}}
SESSION = {"command": ["python", "job.py"], "versions": {"rayfs": "0.1"}}
METHODS: dict[str, dict[str, Any]] = {"logistic-regression": {"c": 1.0}}


def open_run(folder: Path) -> RunDirectory:
    return RunDirectory(str(folder)).open(IDENTITY, SESSION, METHODS)


@pytest.fixture
def run(tmp_path: Path, make_row: MakeRow) -> Path:
    """Two parts of a run."""
    with open_run(tmp_path / "run") as opened:
        opened.append([make_row(0), make_row(1)])
        opened.append([make_row(2)])
    return tmp_path / "run"


def refusals(run: Path) -> set[str]:
    """Return what reading, comparing and resuming say of a run that all of them must refuse."""
    readers: list[Callable[[], Any]] = [
        lambda: RunDirectory(str(run)).rows(),
        lambda: read_run(str(run)),
        lambda: open_run(run).close(),
    ]
    said = set()
    for reader in readers:
        with pytest.raises(InputError) as error:
            within_seconds(reader)
        said.add(str(error.value))
    return said


# The manifest


def changed(**parts: Any) -> bytes:
    manifest = {"format": 1, "identity": IDENTITY, "methods": METHODS, "sessions": [SESSION]}
    return json.dumps(manifest | parts).encode()


NO_MANIFEST = "is not the manifest of a run: "
ELSE = "; use another --out"
RESTORE = "; restore the file, or use another --out"
MANIFESTS = {
    "nothing": (b"", f"{NO_MANIFEST}Expecting value: line 1 column 1 (char 0){ELSE}"),
    "half": (changed()[:-9], f"{NO_MANIFEST}...{ELSE}"),
    "no UTF-8": (b'{"format": "\xff\xfe"}', f"{NO_MANIFEST}...{ELSE}"),
    "zeros": (b"\0" * 300, f"{NO_MANIFEST}...{ELSE}"),
    "Parquet": (b"PAR1\xff\xff\0PAR1", f"{NO_MANIFEST}...{ELSE}"),
    "too deep": (b"[" * 100_000, f"{NO_MANIFEST}it is nested too deeply{ELSE}"),
    "not a number": (b'{"format": NaN}', f"{NO_MANIFEST}NaN is no JSON value{ELSE}"),
    "number without end": (b"1" * 5_000, f"{NO_MANIFEST}...{ELSE}"),
    "text": (b'"manifest"', f"{NO_MANIFEST}it is 'manifest'{ELSE}"),
    "number": (b"7", f"{NO_MANIFEST}it is 7{ELSE}"),
    "null": (b"null", f"{NO_MANIFEST}it is None{ELSE}"),
    "list": (b"[1]", f"{NO_MANIFEST}it is [1]{ELSE}"),
    "other keys": (b'{"name": "thesis"}', f"{NO_MANIFEST}it has the keys ['name']{ELSE}"),
    "format": (changed(format="1"), f"is damaged: format is '1', expected an integer{RESTORE}"),
    "format true": (changed(format=True), f"is damaged: format is True, expected an integer{RESTORE}"),
    "identity": (changed(identity=[]), f"is damaged: identity is [], expected an object{RESTORE}"),
    "methods": (
        changed(methods=["logistic-regression"]),
        f"is damaged: methods is ['logistic-regression'], expected an object{RESTORE}",
    ),
    "method": (
        changed(methods={"logistic-regression": 1}),
        f"is damaged: methods.logistic-regression is 1, expected an object{RESTORE}",
    ),
    "sessions": (changed(sessions={}), f"is damaged: sessions is {{}}, expected a list{RESTORE}"),
    "session": (changed(sessions=["x"]), f"is damaged: sessions.0 is 'x', expected an object{RESTORE}"),
    "command": (
        changed(sessions=[{}, {"command": "rm"}]),
        f"is damaged: sessions.1.command is 'rm', expected a list{RESTORE}",
    ),
    "versions": (
        changed(sessions=[{"versions": [1]}]),
        f"is damaged: sessions.0.versions is [1], expected an object{RESTORE}",
    ),
    "protocol": (
        changed(identity={"protocol": "5-way"}),
        f"is damaged: identity.protocol is '5-way', expected an object{RESTORE}",
    ),
    "backbone": (
        changed(identity={"backbone": None}),
        f"is damaged: identity.backbone is None, expected an object{RESTORE}",
    ),
    "base": (changed(identity={"base": 3}), f"is damaged: identity.base is 3, expected an object{RESTORE}"),
    "base images": (
        changed(identity={"base": {"n_images": "<b>"}}),
        f"is damaged: identity.base.n_images is '<b>', expected an integer{RESTORE}",
    ),
    "table": (
        changed(identity={"novel_table": {"a": 1}}),
        f"is damaged: identity.novel_table is {{'a': 1}}, expected a text{RESTORE}",
    ),
    "confirmed": (changed(confirmed=0), f"is damaged: confirmed is 0, expected an object{RESTORE}"),
    "confirmed table": (
        changed(confirmed={"base_table": 5}),
        f"is damaged: confirmed.base_table is 5, expected a text{RESTORE}",
    ),
    "long part": (
        changed(identity="x" * 900),
        f"is damaged: identity is '{'x' * 79}... (902 characters), expected an object{RESTORE}",
    ),
}
"""Name -> (content, the message behind the path); `...` stands for the words of json."""


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_damaged_manifest_is_refused_by_every_reader_with_the_same_message(run: Path, name: str) -> None:
    content, message = MANIFESTS[name]
    (run / "manifest.json").write_bytes(content)
    (said,) = refusals(run)
    pattern = re.escape(f"{run}/manifest.json {message}").replace(r"\.\.\.", ".+")
    assert re.fullmatch(pattern, said), said
    assert (run / "manifest.json").read_bytes() == content


# Links, pipes and folders in the place of files


def replaced(path: Path, put: Callable[[Path], Any]) -> None:
    path.unlink()
    put(path)


@pytest.mark.parametrize("name", ["manifest.json", "episodes/part-000001.parquet"])
def test_a_link_to_a_file_of_another_run_is_refused(run: Path, name: str) -> None:
    other = run.parent / "other" / Path(name).name
    other.parent.mkdir()
    (run / name).rename(other)
    (run / name).symlink_to(other)
    (said,) = refusals(run)
    assert said == f"{run}/{name} is a link to {other}, outside {run}; put the file itself there, or remove the link"


@pytest.mark.parametrize("name", ["manifest.json", "episodes/part-000001.parquet"])
@pytest.mark.parametrize(("put", "kind"), [(os.mkfifo, "a pipe, socket or device"), (Path.mkdir, "a folder")])
def test_what_is_no_file_is_refused_without_waiting(
    run: Path, name: str, put: Callable[[Path], Any], kind: str
) -> None:
    replaced(run / name, put)
    (said,) = refusals(run)
    assert said == f"{run}/{name} is {kind}, not a file; move it away"


def test_a_folder_of_parts_that_is_a_link_is_refused_and_nothing_behind_it_is_touched(run: Path) -> None:
    other = run.parent / "other"
    (run / "episodes").rename(other)
    (other / ".draft.tmp").write_text("not ours")
    (run / "episodes").symlink_to(other)
    (said,) = refusals(run)
    assert said == f"{run}/episodes is a link to {other}, outside {run}; put the file itself there, or remove the link"
    assert (other / ".draft.tmp").read_text() == "not ours"


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays(run: Path) -> None:
    (run.parent / "thesis.tex").write_text("ten years of work")
    replaced(run / ".lock", lambda path: path.symlink_to("../thesis.tex"))
    with pytest.raises(InputError) as refusal:
        open_run(run)
    assert str(refusal.value) == f"{run}/.lock is a link to ../thesis.tex; remove it, a lock is a file of its own"
    assert (run.parent / "thesis.tex").read_text() == "ten years of work"


def test_the_run_directory_itself_may_be_a_link(run: Path) -> None:
    (run.parent / "latest").symlink_to(run)
    assert len(RunDirectory(str(run.parent / "latest")).rows()) == 3
    open_run(run.parent / "latest").close()


@pytest.mark.parametrize("location", [os.fsdecode(b"runs/caf\xe9"), "runs/a\0b"])
def test_a_location_that_is_no_text_is_refused(location: str) -> None:
    with pytest.raises(InputError) as refusal:
        RunDirectory(location)
    assert str(refusal.value) == f"the run directory {os.fsencode(location)!r} is no UTF-8 text; give it another name"


def test_a_command_with_a_broken_file_name_is_kept_and_read_back(tmp_path: Path) -> None:
    command = ["python", "job.py", "--data", os.fsdecode(b"caf\xe9")]
    RunDirectory(str(tmp_path)).open(IDENTITY, {"command": command}, METHODS).close()
    manifest = RunDirectory(str(tmp_path)).manifest()
    assert manifest is not None and manifest["sessions"][0]["command"] == command
    assert "caf" in render(run_report(manifest, [], None, None, str(tmp_path)))


# Parts


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\0" * 500, b"{}", b"PAR1" + b"\xff" * 90 + b"PAR1"])
def test_a_part_that_is_no_parquet_is_refused_with_what_to_do(run: Path, content: bytes) -> None:
    path = run / "episodes" / "part-000001.parquet"
    path.write_bytes(content)
    for said in refusals(run):
        assert said.startswith(f"{path} cannot be read: ")
        assert said.endswith("; if it is damaged, delete it and rerun the same command: only its episodes run again")


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"episode": [1]}),
        pa.table({}),
        SCHEMA.remove(0).empty_table(),
        SCHEMA.set(0, pa.field("episode", pa.string(), nullable=False)).empty_table(),
        SCHEMA.set(3, pa.field("accuracy", pa.float32())).empty_table(),
        SCHEMA.append(pa.field("more", pa.int64())).empty_table(),
        pa.schema(list(reversed(SCHEMA))).empty_table(),
    ],
)
def test_a_part_with_other_columns_or_types_is_refused(run: Path, table: pa.Table) -> None:
    path = run / "episodes" / "part-000001.parquet"
    parquet.write_table(table, path)
    (said,) = refusals(run)
    assert said == f"{path} has other columns than this version of rayfs writes; read it with the version it is of"


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        (
            {"episode": 0, "episode_hash": "other"},
            "episode 0 of method 'logistic-regression' has the episode hash 'other' here and 'hash-0'",
        ),
        (
            {"episode": 0, "method": "cosine", "episode_hash": "other"},
            "episode 0 of method 'cosine' has the episode hash 'other' here and 'hash-0'",
        ),
        (
            {"episode": 9, "config_hash": "other"},
            "episode 9 of method 'logistic-regression' has the config hash 'other' here and "
            "'config-logistic-regression'",
        ),
    ],
)
def test_a_part_of_another_run_is_refused_with_what_contradicts(
    run: Path, make_row: MakeRow, fields: dict[str, Any], what: str
) -> None:
    path = run / part_name(EPISODES, 7)
    path.write_bytes(encode_part(EPISODES, [make_row(**fields)]))
    (said,) = refusals(run)
    assert said == (
        f"{path} is of another run than {run / part_name(EPISODES, 0)}: {what} there; remove the part "
        "that does not belong to this run"
    )


@pytest.mark.parametrize("predictions", [[0, 1, 5], [0, -1, 1], [0, 1, 32767]])
def test_answers_that_are_no_labels_of_the_episode_are_refused(
    run: Path, make_row: MakeRow, predictions: list[int]
) -> None:
    (run / part_name(EPISODES, 7)).write_bytes(encode_part(EPISODES, [make_row(9, predictions=predictions)]))
    odd = next(label for label in predictions if not 0 <= label < 5)
    for read in (lambda: RunDirectory(str(run)).rows(), lambda: read_run(str(run))):
        with pytest.raises(InputError) as refusal:
            read()
        assert str(refusal.value) == (
            f"{run}: the row of episode 9, method 'logistic-regression' has the label {odd}, but its episodes are "
            "5-way (0 to 4); the row is of another run: remove the part that holds it"
        )


# The row ids of the episodes


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    return characters(tmp_path_factory.mktemp("cache"), 1, 4)


def episodes_of(protocol: Any, fingerprint: str, episodes: Any) -> bytes:
    return encode_episode_file(episodes, protocol, fingerprint, [])


def test_row_ids_of_another_run_are_no_reason_to_give_no_report(table: ImageTable, tmp_path: Path) -> None:
    drawn = draw(table, 2)
    run = write_run(tmp_path / "run", table, drawn, answers(drawn, "logistic-regression", [1, 2]))
    foreign = {
        f"episodes.parquet is of another run: its images abc, here {table.fingerprint}": ("abc", PROTOCOL),
    }
    for message, (fingerprint, protocol) in foreign.items():
        (tmp_path / "run" / "episodes.parquet").write_bytes(episodes_of(protocol, fingerprint, drawn))
        assert message in str(build_report(run, tmp_path)["report.html"])
    for content in (b"", b"PAR1", b"\0" * 99):
        (tmp_path / "run" / "episodes.parquet").write_bytes(content)
        assert "cannot read the episode file" in str(build_report(run, tmp_path)["report.html"])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"[" * 100_000, b'{"baseline": {"a": 1}}', b"\xff"])
def test_a_damaged_summary_is_not_needed(run: Path, content: bytes) -> None:
    (run / "summary.json").write_bytes(content)
    assert read_run(str(run)).baseline == "logistic-regression"


# Damage

MANIFEST_TEXT = json.dumps(
    {"format": 1, "identity": {"protocol": asdict(PROTOCOL), "base": {"n_images": 7}}, "methods": METHODS,
     "sessions": [SESSION], "confirmed": {"base_table": "abc"}}
).encode()  # fmt: skip


def test_a_damaged_manifest_is_refused_or_can_be_shown(tmp_path: Path) -> None:
    @FUZZ
    @given(corruptions(MANIFEST_TEXT))
    def check(damaged: bytes) -> None:
        (tmp_path / "manifest.json").write_bytes(damaged)
        try:
            manifest = RunDirectory(str(tmp_path)).manifest()
            RunDirectory(str(tmp_path)).refuse_other(IDENTITY, METHODS)
        except InputError as error:
            assert str(tmp_path) in str(error)
        else:
            assert manifest is not None
            render(run_report(manifest, [], None, None, str(tmp_path)))

    check()


def test_a_damaged_part_gives_its_rows_exactly_or_is_refused(tmp_path: Path, make_row: MakeRow) -> None:
    rows = [make_row(0, accuracy=0.123456789), make_row(1, accuracy=None)]
    path = tmp_path / part_name(EPISODES, 0)
    path.parent.mkdir()

    @FUZZ
    @given(corruptions(encode_part(EPISODES, rows)))
    def check(damaged: bytes) -> None:
        path.write_bytes(damaged)
        try:
            assert read_part(EPISODES, Storage.at(str(tmp_path)), 0) == rows
        except InputError as error:
            assert str(path) in str(error)

    check()
