"""The report of a run, from real run directories with real images."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_run import answers, characters, draw, failed, write_run

from rayfs.datasets.image_table import ImageTable, TableWriter
from rayfs.errors import InputError
from rayfs.reports.episodes.build import build_report, write_report
from rayfs.runs.run_directory import RunDirectory

LR_WRONG, HALLUC_WRONG = [1, 2, 0, 3, 1, 1], [0, 2, 0, 0, 3, 1]
HOSTILE = "<script>alert('1')</script>&\""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def novel(cache: Path) -> ImageTable:
    return characters(cache, 1, 5)


@pytest.fixture(scope="module")
def base(cache: Path) -> ImageTable:
    return characters(cache, 6, 9)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, novel: ImageTable, base: ImageTable) -> RunDirectory:
    """Six episodes of a baseline and of a method that hallucinates labels: two base images for each class."""
    episodes = draw(novel, 6)
    top = {"top_base_rows": [0, 21, 42, 63, 5, 6], "top_base_probabilities": [0.9, 0.8, 0.7, 0.6, 0.55, 0.25]}
    rows = answers(episodes, "logistic-regression", LR_WRONG) + answers(episodes, "label-halluc", HALLUC_WRONG, **top)
    return write_run(tmp_path_factory.mktemp("runs") / "run", novel, episodes, rows, base=base)


@pytest.fixture(scope="module")
def html(run: RunDirectory, cache: Path) -> str:
    return page(run, cache)


def page(run: RunDirectory, cache_dir: Path) -> str:
    content = build_report(run, cache_dir)["report.html"]
    assert isinstance(content, str)
    well_formed(content)
    return content


def well_formed(html: str) -> None:
    """Check that every element is closed in order, and that nothing refers to anything outside the file."""
    open_tags: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "link", "iframe", "object", "embed")
            for name, value in attrs:
                assert not name.startswith("on"), f"{tag} has {name}"
                if name in ("src", "href", "xlink:href"):
                    assert value is not None and value.startswith(("#", "data:")), value
            if tag not in ("meta", "br", "wbr", "img"):
                open_tags.append(tag)

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.handle_starttag(tag, attrs)
            if open_tags[-1:] == [tag]:
                open_tags.pop()

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag, f"</{tag}> after {open_tags[-3:]}"

    Parser().feed(html)
    assert open_tags == []
    assert all(target.startswith(("data:", "#")) for target in re.findall(r"url\(['\"]?([^)]{6})", html))
    assert "http" not in html and "@import" not in html


# What is in it


def test_the_report_is_one_file_with_its_parts_in_this_order(html: str) -> None:
    headings = re.findall(r"<h[123]>([^<]*)<", html)
    assert headings == [
        "omniglot, 3-way 2-shot",
        "Result",
        "Accuracy, gain and time",
        "Classes",
        "What is taken for what",
        "Episodes to look at",
        "Largest gain: episode 3",
        "Median gain: episode 2",
        "Largest loss: episode 4",
    ]


def test_the_head_says_what_was_run_when_and_how(html: str, run: RunDirectory) -> None:
    dates = run.written_at()
    assert dates is not None
    for text in (
        "6 (6 distinct), 3-way 2-shot, 4 queries a class", "conv4, state 61912c3761c4669b", "rayfs 0.1.0",
        f"python job.py --out {run.location}", dates[0].strftime("%Y-%m-%d %H:%M UTC"), "test, seed 0, 16 px",
    ):  # fmt: skip
        assert text in html


def test_the_table_of_the_page_has_the_figures_of_the_other_tables(run: RunDirectory, cache: Path, html: str) -> None:
    files = build_report(run, cache)
    assert files.keys() == {"report.html", "table.csv", "table.md", "table.tex"}
    # lr: 8 of 72 wrong; label-halluc: 6 of 72
    assert "88.89 ± 9.03" in str(files["table.md"]) and r"88.89 $\pm$ 9.03" in str(files["table.tex"])
    assert re.search(r"<td>88\.89<span class=\"interval\"> ± 9\.03</span></td>", html)
    assert str(files["table.csv"]).splitlines()[0].startswith("method,n,n_distinct,accuracy,ci95,gain,gain_ci95,win,")
    assert "+2.78 ± 14.28" in str(files["table.md"])
    for name in ("table.md", "table.tex"):
        assert "2/3/1" in str(files[name])


def test_figures_of_every_kind_are_drawn_once(html: str) -> None:
    labels = re.findall(r'<svg viewBox="[^"]*" role="img" aria-label="([^"]*)"', html)
    assert labels == [
        "Histogram of the accuracies of each method",
        "Accuracy of label-halluc against logistic-regression, episode by episode",
        "Running mean of the accuracy with its 95% interval",
        "Running mean of the gain over the baseline with its 95% interval",
        "Seconds per episode of each method",
        "Accuracy of each class",
        "Confusion matrix of logistic-regression",
        "Confusion matrix of label-halluc",
    ]


def test_queries_are_marked_right_or_wrong_by_more_than_colour(html: str) -> None:
    worst = html[html.index("Largest loss: episode 4") :]
    assert worst.count('<span class="image wrong">') == 3 and worst.count('<span class="image right">') == 9
    assert worst.count('<em class="no">✗&thinsp;2</em>') == 4, "three wrong answers of the method, one of the baseline"
    assert worst.count('<em class="yes">✓</em>') == 20
    assert "label-halluc 75.0%, logistic-regression 91.7%: −16.7 points" in worst
    assert "label-halluc: wrong, taken for 2 Latin" in worst


def test_base_images_stand_beside_their_class_surest_first(html: str) -> None:
    episode = html[html.index("Largest gain: episode 3") : html.index("Median gain")]
    captions = re.findall(r'<em class="p">([\d.]+)</em><em class="name">([^/]+/<wbr>\w+)</em>', episode)
    assert captions == [
        ("0.90", "Latin/<wbr>character06"),
        ("0.80", "Latin/<wbr>character07"),
        ("0.70", "Latin/<wbr>character08"),
        ("0.60", "Latin/<wbr>character09"),
        ("0.55", "Latin/<wbr>character06"),
        ("0.25", "Latin/<wbr>character06"),
    ]


# What it does not depend on


def test_the_same_run_gives_the_same_bytes(run: RunDirectory, cache: Path) -> None:
    assert build_report(run, cache) == build_report(RunDirectory(run.location), cache)


def test_without_the_cache_the_report_says_which_tables_it_lacks_and_has_everything_else(
    run: RunDirectory, html: str, novel: ImageTable, base: ImageTable, tmp_path: Path
) -> None:
    bare = page(run, tmp_path)
    for kind, table in (("novel", novel), ("base", base)):
        assert f"No pictures of {kind} images: image table {table.fingerprint} is not in {tmp_path}" in bare
    assert "RAYFS_CACHE" in bare and "data:image/png" not in bare[bare.index("Episodes to look at") :]
    assert bare[: bare.index("Episodes to look at")] == html[: html.index("Episodes to look at")]
    assert "Largest gain: episode 3" in bare


def test_without_the_base_table_the_episodes_are_still_shown(
    run: RunDirectory, cache: Path, base: ImageTable, tmp_path: Path
) -> None:
    shutil.copytree(cache, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache" / "tables" / base.fingerprint)
    bare = page(run, tmp_path / "cache")
    assert f"No pictures of base images: image table {base.fingerprint}" in bare
    assert "No pictures of novel" not in bare and bare.count('class="image right"') > 20
    assert "base images surest" not in bare


def test_a_run_without_row_ids_says_so_and_has_the_rest(novel: ImageTable, cache: Path, tmp_path: Path) -> None:
    episodes = draw(novel, 3)
    run = write_run(
        tmp_path / "run", novel, episodes, answers(episodes, "logistic-regression", [0, 1, 2]), keep_episodes=False
    )
    bare = page(run, cache)
    assert "the run has no episodes.parquet" in bare and "Seconds per episode" in bare
    (tmp_path / "run" / "episodes.parquet").write_bytes(b"damaged")
    assert "cannot read the episode file" in page(run, cache)


def test_episodes_that_the_manifest_does_not_hold_are_counted(novel: ImageTable, cache: Path, tmp_path: Path) -> None:
    episodes = draw(novel, 4)
    run = write_run(tmp_path / "run", novel, episodes[:3], answers(episodes, "logistic-regression", [0, 1, 2, 3]))
    assert "1 rows are of episodes that episodes.parquet does not hold" in page(run, cache)


# Small and broken runs


def test_failed_episodes_are_listed_with_the_end_of_their_traceback(
    novel: ImageTable, cache: Path, tmp_path: Path
) -> None:
    episodes = draw(novel, 3)
    traceback = "Traceback:\n" + "\n".join(f"line {i}" for i in range(30)) + "\nValueError: <poisoned>"
    rows = [
        *answers(episodes[:2], "logistic-regression", [0, 1]),
        failed(episodes[2], "logistic-regression", traceback),
    ]
    html = page(write_run(tmp_path / "run", novel, episodes, rows), cache)
    assert "1 row failed and count in no figure" in html
    assert "Episode 2, logistic-regression: failed, attempt 3" in html
    assert "line 29\nValueError: &lt;poisoned&gt;</pre>" in html and "line 18\n" not in html and "line 19\n" in html


def test_a_run_of_the_baseline_alone_shows_its_best_median_and_worst_episodes(
    novel: ImageTable, cache: Path, tmp_path: Path
) -> None:
    episodes = draw(novel, 3)
    html = page(
        write_run(tmp_path / "run", novel, episodes, answers(episodes, "logistic-regression", [1, 0, 4])), cache
    )
    assert re.findall(r"<h3>([^<]*)<", html) == [
        "Highest accuracy: episode 1",
        "Median accuracy: episode 0",
        "Lowest accuracy: episode 2",
    ]
    assert 'aria-label="Accuracy of logistic-regression against' not in html and "Mean gain over" not in html


def test_a_run_without_a_baseline_has_no_gains(novel: ImageTable, cache: Path, tmp_path: Path) -> None:
    episodes = draw(novel, 3)
    rows = answers(episodes, "prototype", [1, 0, 4]) + answers(episodes, "cosine", [1, 1, 1])
    html = page(write_run(tmp_path / "run", novel, episodes, rows), cache)
    assert "<dt>Baseline</dt><dd>none</dd>" in html and "win/tie/loss" not in html
    assert "Highest accuracy: episode 1" in html


def test_one_episode_is_enough(novel: ImageTable, cache: Path, tmp_path: Path) -> None:
    episodes = draw(novel, 1)
    rows = answers(episodes, "logistic-regression", [1]) + answers(episodes, "label-halluc", [0])
    html = page(write_run(tmp_path / "run", novel, episodes, rows), cache)
    assert html.count("<h3>") == 1 and "Running mean" not in html and "Histogram of the accuracies" in html


@pytest.mark.parametrize("n_failed", [0, 1])
def test_a_run_without_a_finished_episode_has_a_report(
    n_failed: int, novel: ImageTable, cache: Path, tmp_path: Path
) -> None:
    episodes = draw(novel, 2)
    run = write_run(
        tmp_path / "run", novel, episodes, [failed(e, "logistic-regression", "boom") for e in episodes[:n_failed]]
    )
    html = page(run, cache)
    assert "No episode of this run is finished" in html and ("Failed episodes" in html) == bool(n_failed)


def test_where_there_is_no_run_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is not a run directory"):
        build_report(RunDirectory(str(tmp_path / "nothing")), tmp_path)


# Texts from outside


@pytest.fixture
def hostile(tmp_path: Path) -> ImageTable:
    """Classes with names that are HTML, LaTeX, mathematics, or not text at all."""
    writer = TableWriter(tmp_path / "cache", channels=3, image_size=50)
    noise = np.random.default_rng(0)
    for name in (HOSTILE, "a$b$c_%#~\\", "\udcff broken \x07", "漢字" * 40):
        for i in range(8):
            writer.add(noise.integers(0, 256, (1, 50, 50, 3), dtype=np.uint8), [name], [bytes([i]) * 16])
    return writer.finish("hostile")[0]


def test_texts_from_outside_stay_texts(hostile: ImageTable, tmp_path: Path) -> None:
    episodes = draw(hostile, 4)
    method = "label-halluc:<img src=x onerror=alert(1)>|$_&"
    rows = answers(episodes, "logistic-regression", [0, 1, 2, 3])
    rows += [*answers(episodes[:3], method, [3, 2, 1]), failed(episodes[3], method, HOSTILE)]
    location = tmp_path / "<i>runs</i>"
    run = write_run(location, hostile, episodes, rows, identity={"benchmark": HOSTILE})
    files = build_report(run, tmp_path / "cache")
    html = str(files["report.html"])
    well_formed(html)
    assert "<script" not in html and "<img" not in html and "<i>runs" not in html
    assert html.count("&lt;script&gt;") > 5 and "data:image/jpeg" in html
    for content in files.values():
        str(content).encode()
    assert r"\textless{}img src=x onerror=alert(1)\textgreater{}\textbar{}\$\_\&" in str(files["table.tex"])
    assert r"\<img src=x onerror=alert(1)\>\|$\_&" in str(files["table.md"])


def test_passwords_of_a_location_are_not_in_the_report(novel: ImageTable, cache: Path, tmp_path: Path) -> None:
    episodes = draw(novel, 2)
    run = write_run(tmp_path / "run", novel, episodes, answers(episodes, "logistic-regression", [0, 1]))
    session = {"command": ["python", "job.py", "--out", "s3://key:secret@bucket/run"]}
    manifest = run.manifest()
    assert manifest is not None
    RunDirectory(run.location).open(manifest["identity"], session, manifest["methods"]).close()
    html = page(run, cache)
    assert "key:secret" not in html and "s3://***@bucket/run" in html and "1 earlier command of this run" in html


# Writing


def test_write_report_puts_its_files_into_an_open_run(run: RunDirectory, cache: Path) -> None:
    manifest = run.read_file("manifest.json")
    with RunDirectory(run.location).reopen() as opened:
        write_report(opened, cache)
    for name, content in build_report(run, cache).items():
        stored = run.read_file(name)
        assert stored is not None and stored.decode() == content
    assert run.read_file("manifest.json") == manifest
