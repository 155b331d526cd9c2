"""One JSON line a row."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from rayfs.errors import InputError
from rayfs.runs.episode_log import FIELDS, EpisodeLog
from rayfs.runs.rows import Row

DONE = Row(
    episode=3, method="logistic-regression", status="ok", accuracy=0.75, predictions=[0, 1, 1, 1], labels=[0, 0, 1, 1],
    seconds=1.5,
    episode_hash="e", config_hash="c",
)  # fmt: skip
FAILED = Row(
    episode=4, method="logistic-regression", status="failed", attempt=3, error="Traceback ...\nValueError: no\n",
    episode_hash="e",
    config_hash="c",
)  # fmt: skip


def test_a_line_a_row_is_appended_as_rows_come(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "episodes.jsonl"
    for rows in ([DONE], [FAILED]):
        with EpisodeLog(path) as log:
            log.add(rows)
    first, second = map(json.loads, path.read_text().splitlines())
    assert list(first) == ["time", *FIELDS] and list(second) == ["time", *FIELDS, "error"]
    assert (first["episode"], first["accuracy"], first["seconds"]) == (3, 0.75, 1.5)
    assert (second["status"], second["attempt"], second["error"]) == ("failed", 3, "ValueError: no")
    assert datetime.fromisoformat(first["time"]) <= datetime.fromisoformat(second["time"])


def test_a_line_is_there_before_the_log_is_closed(tmp_path: Path) -> None:
    with EpisodeLog(tmp_path / "log") as log:
        log.add([DONE])
        assert (tmp_path / "log").read_text().endswith("}\n")


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    with EpisodeLog(None) as log:
        log.add([DONE])
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out == ""


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"--episode-log .*: cannot write it .* name another file"),
        EpisodeLog(tmp_path),
    ):
        pass
    with pytest.raises(InputError, match="a URI; give the path of a file"), EpisodeLog(Path("s3://bucket/log")):
        pass


def test_a_loss_that_is_no_number_is_null(tmp_path: Path) -> None:
    with EpisodeLog(tmp_path / "log") as log:
        log.add([replace(DONE, loss_support=float("nan"))])
    assert json.loads((tmp_path / "log").read_text(), parse_constant=pytest.fail)["loss_support"] is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_ends_the_log_and_not_the_run(capsys) -> None:
    with EpisodeLog(Path("/dev/full")) as log:
        for _ in range(2):
            log.add([DONE])
    assert capsys.readouterr().out.count("warning: --episode-log /dev/full ends here") == 1
