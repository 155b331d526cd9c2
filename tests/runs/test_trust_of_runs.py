"""What a run directory and its report do with texts from outside: secrets are left out, HTML stays text."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_run import PROTOCOL, answers, draw, failed

from rayfs.backbones import Conv4, save_checkpoint
from rayfs.datasets.episode_file import encode_episode_file
from rayfs.datasets.image_table import ImageTable, TableWriter
from rayfs.randomness import torch_generator
from rayfs.reports.episodes.build import build_report, write_report
from rayfs.runs.run_directory import EPISODE_FILE, RunDirectory
from rayfs.statistics.compared_run import read_run
from rayfs.statistics.summary import summarise

SCRIPT, IMAGE, QUOTES = "<script>alert(1)</script>", '"><img src=x onerror=1>', "' onload='alert(1)"
COMMENT, ENTITY, STYLE = "--><!--", "&lt;b&gt;&amp;", "</style></svg><b>"
HOSTILE = (SCRIPT, IMAGE, QUOTES, COMMENT, ENTITY, STYLE)
AWS, TOKEN = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "ray-0123456789abcdef"
SECRETS = (AWS, TOKEN, "hunter2hunter2", "s3cr3t")


def hostile_table(cache_dir: Path) -> ImageTable:
    writer = TableWriter(cache_dir, channels=3, image_size=16)
    noise = np.random.default_rng(0)
    for i, name in enumerate(HOSTILE[:4]):
        pixels = noise.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
        writer.add(pixels, [name] * 8, [bytes([i, j]) * 8 for j in range(8)])
    return writer.finish("hostile")[0]


def write_run(
    folder: Path, table: ImageTable, text: str, error: str, session: dict[str, Any], identity: dict[str, Any]
) -> RunDirectory:
    """Write a run of four episodes whose last one failed, with `text` wherever a run has texts of its own."""
    method = f"method {text}"
    episodes = draw(table, 4)
    top = {"top_base_rows": [0, 8, 16], "top_base_probabilities": [0.5, 0.5, 0.5]}
    rows = answers(episodes, "logistic-regression", [0, 1, 2, 3])
    rows += [
        *answers(episodes[:3], method, [3, 2, 1], node=text, device=text, **top),
        failed(episodes[3], method, error),
    ]
    methods = {"logistic-regression": {"c": 1.0}, method: {text: text}}
    with RunDirectory(str(folder)).open(identity, session, methods) as run:
        names = table.class_names
        run.write_file(EPISODE_FILE, encode_episode_file(episodes, PROTOCOL, table.fingerprint, names))
        run.append(rows)
        run.confirm("base_table", table.fingerprint)
        run.write_summary(summarise(run.rows(), "logistic-regression", ["logistic-regression", method]).to_json())
    return RunDirectory(str(folder))


# HTML


class Page(HTMLParser):
    """Collects the texts of a page, and refuses elements and attributes that could do something."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "img", "link", "iframe", "object", "embed", "form", "base", "foreignobject")
        for name, value in attrs:
            assert not name.startswith("on"), f"<{tag} {name}={value}>"
            if name in ("src", "href", "xlink:href", "action", "formaction"):
                assert value is not None and value.startswith(("#", "data:image/")), f"<{tag} {name}={value}>"
            self.texts.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")


@pytest.mark.parametrize("text", HOSTILE)
def test_every_text_from_outside_stays_a_text_in_the_report(text: str, tmp_path: Path) -> None:
    table = hostile_table(tmp_path / "cache")
    session = {"command": ["python", text], "versions": {text: text}, "git_commit": text}
    identity = {
        "benchmark": text, "image_size": text, "novel_table": table.fingerprint,
        "protocol": {"n_way": 3, "n_shot": 2, "n_query": 4, "split": text, "seed": text},
        "backbone": {"name": text, "state_hash": text}, "base": {"n_images": 3, "classes": [text]},
    }  # fmt: skip
    run = write_run(tmp_path / "runs" / text, table, text, f"Traceback:\n  {text}", session, identity)
    html = str(build_report(run, tmp_path / "cache")["report.html"])
    page = Page()
    page.feed(html)
    page.close()
    shown = "\n".join(page.texts)
    for place in (
        f"{text}, 3-way 2-shot", f"{text}, state {text}", f"{text}, seed {text}, {text} px", f"{text} {text}",
        f"method {text}", f"Traceback:\n  {text}", f"Accuracy of method {text} against logistic-regression",
    ):  # fmt: skip
        assert place in shown, place
    assert all(name in shown for name in table.class_names), "class names"
    assert shown.count(text) > 20


# Secrets


@pytest.fixture
def secrets_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)


COMMAND = [
    "python", "job.py", "--out", f"s3://AKIA:{AWS}@bucket/run", "--data", "https://me:hunter2hunter2@host/x",
    f"--header=Bearer {TOKEN}", "--manifest", "s3://bucket/m?secret_key=s3cr3t&region=eu",
]  # fmt: skip
ERROR = f"Traceback:\n  PermissionError: s3://AKIA:{AWS}@bucket refused {AWS} and {TOKEN}, password=s3cr3t"


def test_no_file_of_a_run_holds_a_secret(secrets_around: None, tmp_path: Path) -> None:
    table = hostile_table(tmp_path / "cache")
    identity = {"benchmark": "b", "novel_table": table.fingerprint, "protocol": {"n_way": 3}}
    session = {"command": COMMAND, "versions": {}, "environment": {"a": ERROR}}
    run = write_run(tmp_path / "run", table, "plain", ERROR, session, identity)
    with run.reopen() as opened:
        opened.write_summary({"baseline": "logistic-regression", "methods": {}, "told": ERROR})
        write_report(opened, tmp_path / "cache")
    files = {path.name: path.read_bytes().decode("utf-8", "replace") for path in run_files(tmp_path / "run")}
    assert {"manifest.json", "summary.json", "report.html", "table.csv", "table.md", "table.tex"} <= files.keys()
    files["rows"] = "".join(
        f"{row.error} {row.node} {row.device}" for row in read_run(str(tmp_path / "run")).rows["method plain"]
    )
    leaks = {(name, secret) for name, content in files.items() for secret in SECRETS if secret in content}
    assert leaks == set()
    assert "s3://***@bucket/run" in files["manifest.json"] and "s3://***@bucket/run" in files["report.html"]
    assert "PermissionError: s3://***@bucket refused *** and ***, password=***" in files["rows"]


def run_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_run_resumes_under_other_secrets(
    secrets_around: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunDirectory(str(tmp_path)).open({"a": 1}, {"command": COMMAND}, {}).close()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-than-before")
    RunDirectory(str(tmp_path)).open({"a": 1}, {"command": COMMAND}, {}).close()
    assert "another-secret" not in (tmp_path / "manifest.json").read_text()


def test_the_sidecar_of_a_checkpoint_holds_no_secret(secrets_around: None, tmp_path: Path) -> None:
    metadata = {"command": " ".join(COMMAND), "training": {"data": ERROR}, "accuracy": 0.5}
    save_checkpoint(tmp_path / "a.safetensors", Conv4(width=2, generator=torch_generator(0, "weights")), metadata)
    sidecar = (tmp_path / "a.json").read_text()
    assert [secret for secret in SECRETS if secret in sidecar] == []
    assert "s3://***@bucket/run" in sidecar and '"accuracy": 0.5' in sidecar
