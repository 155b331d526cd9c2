"""Evaluations of long-tailed recognition in their run directory: locked, resumed as themselves, old ones opened."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyarrow import parquet

from rayfs.errors import InputError
from rayfs.runs.class_rows import CLASSES, ClassRow, summary_of
from rayfs.runs.identity import LongTailIdentity
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import SUMMARY, RowsNotSavedError, RunDirectory
from rayfs.runs.storage import Storage
from rayfs.statistics.compared_run import read_run

EVALUATION = LongTailIdentity(settings={"tau": 10.0, "k": (0, 20), "backbone": "conv4"}, tables={}, checkpoints=[])
IDENTITY = EVALUATION.to_json()


def row(class_id: int, n_correct: int | None = 1, classifier: str = "cosine") -> ClassRow:
    return ClassRow(
        checkpoint="a", state_hash="ab", classifier=classifier, class_=f"class {class_id}", group="few",
        class_id=class_id, n_train=5, n_test=3, n_correct=n_correct, seen=n_correct is not None,
    )  # fmt: skip


def opened(folder: Path, **changes: object) -> RunDirectory[ClassRow]:
    return RunDirectory(str(folder), CLASSES).open({**IDENTITY, **changes}, {"command": []})


def test_rows_come_back_and_an_evaluation_done_again_replaces_them(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.replace([row(1, None), row(0)])
        run.write_summary(summary_of(EVALUATION, {"gain": 1.0}, {"command": []}))
        assert run.rows() == [row(0), row(1, None)] and len(run.completed()) == 2
    names = parquet.read_table(tmp_path / "classes.parquet").column_names
    assert names[:5] == ["checkpoint", "state_hash", "classifier", "class", "group"]
    with opened(tmp_path) as run:
        run.replace([row(0, 2), row(1, 3)])
        assert run.rows() == [row(0, 2), row(1, 3)]
    assert list(json.loads((tmp_path / SUMMARY).read_text())) == ["long_tail", "gain", "session"]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(InputError, match="another process is writing this run"):
        opened(tmp_path)
    opened(tmp_path).close()


def test_another_evaluation_or_foreign_files_are_not_overwritten(tmp_path: Path) -> None:
    opened(tmp_path / "run").close()
    with pytest.raises(InputError, match=r"tau was 10.0 and is now 5.0"):
        opened(tmp_path / "run", tau=5.0)
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"holds other files .*no evaluation of long-tailed"):
        opened(tmp_path)


def test_an_evaluation_of_an_earlier_version_is_opened_as_itself_only(tmp_path: Path) -> None:
    """It kept its identity in the summary, and had no manifest."""
    summary = tmp_path / SUMMARY
    summary.write_text(json.dumps({"long_tail": IDENTITY, "gain": 1.0}))
    with pytest.raises(InputError, match=r"tau was 10.0 and is now 5.0"):
        RunDirectory(str(tmp_path), CLASSES).refuse_other({**IDENTITY, "tau": 5.0})
    RunDirectory(str(tmp_path), CLASSES).refuse_other(IDENTITY)
    assert [path.name for path in tmp_path.iterdir()] == [SUMMARY], "checked without writing"
    for damage in ("{", "[]", "{}"):
        summary.write_text(damage)
        with pytest.raises(InputError, match=r"holds other files .*no evaluation of long-tailed"):
            RunDirectory(str(tmp_path), CLASSES).refuse_other(IDENTITY)
    summary.write_text(json.dumps({"long_tail": IDENTITY}))
    opened(tmp_path).close()
    assert (tmp_path / "manifest.json").exists()


def test_a_run_of_one_kind_is_not_opened_as_another(tmp_path: Path, make_row: Callable[..., Row]) -> None:
    opened(tmp_path / "classes").close()
    with pytest.raises(InputError, match="its rows are of 'classes of a long tail', expected 'episodes'"):
        read_run(str(tmp_path / "classes"))
    with RunDirectory(str(tmp_path / "episodes")).open({"benchmark": "omniglot"}, {}) as run:
        run.append([make_row(0)])
    with pytest.raises(InputError, match="its rows are of 'episodes', expected 'classes of a long tail'"):
        opened(tmp_path / "episodes")


def test_a_damaged_file_of_rows_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.replace([row(0)])
    path = tmp_path / CLASSES.file
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"classes.parquet cannot be read: .*; if it is damaged, delete it and rerun"):
        opened(tmp_path)


def test_rows_were_written_when_their_file_was(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        assert run.written_at() is None, "a manifest is no row"
        run.replace([row(0)])
        run.write_file("report.html", "<html>")
    for number, name in enumerate(["manifest.json", "classes.parquet", "report.html"]):
        os.utime(tmp_path / name, (number, number))
    assert run.written_at() == (datetime.fromtimestamp(1, UTC), datetime.fromtimestamp(1, UTC))


def test_rows_that_cannot_be_written_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with opened(tmp_path) as run:
        run.replace([row(0)])
        monkeypatch.setattr(Storage, "write", full)
        with pytest.raises(
            RowsNotSavedError, match=r"2 rows .*classes.parquet, .* \(1 checkpoints, 2 classes\): .*No space"
        ):
            run.replace([row(0, 2), row(1)])
        assert run.rows() == [row(0)]
