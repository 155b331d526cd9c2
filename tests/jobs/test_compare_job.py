"""The comparison job on real run directories: what it prints, what it writes, and what it refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayfs.datasets.episode_file import encode_episode_file
from rayfs.datasets.episodes import Episode, Protocol, draw_episode
from rayfs.experiments.comparison.flags import CompareConfig
from rayfs.experiments.comparison.job import run_compare
from rayfs.flags.command_line import run_job
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import EPISODE_FILE, RunDirectory

ROOT = Path(__file__).parents[2]
PROTOCOL = {"n_way": 2, "n_shot": 1, "n_query": 4, "split": "test", "seed": 0}
LR = "logistic-regression"
FIRST = {"logistic-regression": [0.5, 0.5, 0.75, 0.5], "label-halluc": [0.75, 0.5, 1.0, 0.625]}
SECOND = {"logistic-regression": [0.5, 0.625, 0.75, 0.375], "label-halluc": [0.625, 0.5, 0.75, 0.5]}

Accuracies = Mapping[str, Sequence[float | None]]


def episodes_of(n: int, seed: int) -> list[Episode]:
    """Episodes of a table of 3 classes of 40 images."""
    protocol = Protocol(**{**PROTOCOL, "seed": seed})
    return [draw_episode(np.array([0, 40, 80, 120]), "table", protocol, i) for i in range(n)]


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a run directory as the jobs do, and returns its location."""

    def write(
        name: str, accuracies: Accuracies = FIRST, *, row_ids: bool = True, baseline: str | None = None,
        configs: Mapping[str, Any] | None = None, seed: int = 0, **identity: Any,
    ) -> str:  # fmt: skip
        episodes = episodes_of(max(map(len, accuracies.values())), seed)
        whole = {
            "benchmark": "omniglot", "novel_table": "table", "protocol": {**PROTOCOL, "seed": seed},
            "backbone": {"name": "conv4", "state_hash": "5c1f"}, **identity,
        }  # fmt: skip
        rows = [
            Row(
                episode=episode.index, method=method, status="failed" if accuracy is None else "ok", accuracy=accuracy,
                episode_hash=episode.hash, config_hash="c",
            )
            for method, values in accuracies.items()
            for episode, accuracy in zip(episodes, values, strict=False)
        ]  # fmt: skip
        settings = {method: (configs or {}).get(method, {}) for method in accuracies}
        with RunDirectory(str(tmp_path / name)).open(whole, {}, settings) as run:
            run.append(rows)
            if row_ids:
                run.write_file(EPISODE_FILE, encode_episode_file(episodes, Protocol(**PROTOCOL), "table", []))
            if baseline is not None:
                run.write_summary({"baseline": baseline})
        return str(tmp_path / name)

    return write


def compare(*argv: str) -> int:
    """Run the job in this process, as the script does."""
    return run_job(run_compare, CompareConfig, None, argv)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the job, which must succeed; return what it printed."""

    def run(*argv: str) -> str:
        code = compare(*argv)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


@pytest.fixture
def error(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the job, which must refuse; return its one message."""

    def run(*argv: str) -> str:
        code = compare(*argv)
        captured = capsys.readouterr()
        assert code == 2, captured.out
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
        return captured.err.strip()

    return run


def lines_of(text: str, name: str) -> list[list[str]]:
    """Return the cells of the table lines of `name`."""
    cells = [[cell.strip() for cell in line.split("│")] for line in text.splitlines()]
    return [line[1:] for line in cells if line[0] == name and len(line) > 1]


def test_the_script_compares_two_runs_and_writes_figures_and_a_picture(write_run, tmp_path) -> None:
    a, b = write_run("a"), write_run("b", SECOND, backbone={"name": "resnet12", "state_hash": "77aa"})
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    outputs = ["--json", str(tmp_path / "out" / "c.json"), "--figure", str(tmp_path / "out" / "c.svg")]
    command = [sys.executable, "jobs/compare.py", a, b, *outputs]
    result = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert f"A: {a} (omniglot, test, 2-way 1-shot, conv4 5c1f)" in result.stdout
    assert 'Differs: backbone.name is "conv4" in A and "resnet12" in B.' in result.stdout
    # label-halluc: 12.5 0 25 12.5, mean 12.5, squares 312.5, h = 3.18244631 * sqrt(312.5 / 3) / 2
    over_all, disjoint, tests = lines_of(result.stdout, "label-halluc")
    assert over_all[0] == "4" and over_all[3:] == ["+12.50 ± 16.24", "3/1/0"]
    assert int(disjoint[0]) >= 1
    assert tests[0] == "0.2500", "three wins of three: 2 / 8"
    assert lines_of(result.stdout, "logistic-regression")[0][3:] == ["+0.00 ± 16.24", "1/2/1"]
    figures = json.loads((tmp_path / "out" / "c.json").read_text())
    assert (figures["a"], figures["b"], figures["target"]) == (a, b, 0.5)
    assert [comparison["name"] for comparison in figures["comparisons"]] == ["logistic-regression", "label-halluc"]
    assert figures["comparisons"][1]["difference"] == pytest.approx(12.5)
    assert figures["comparisons"][1]["disjoint"]["n"] == int(disjoint[0])
    assert (tmp_path / "out" / "c.svg").read_bytes().startswith(b"<?xml")
    after = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if "out" not in path.parts)
    assert [entry for entry in after if entry[0] != tmp_path] == before, "runs are only read"


def test_the_job_starts_without_torch_and_ray() -> None:
    code = "import sys, rayfs.experiments.comparison.job; "
    code += "print([name for name in ('torch', 'ray', 'scipy', 'matplotlib') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_one_run_is_every_method_against_its_baseline(write_run, printed) -> None:
    three = {**FIRST, "svm": [0.5, 0.5, 0.5, 0.5]}
    # 25 0 25 12.5: mean 15.625, squares 429.6875, h = 3.18244631 * sqrt(429.6875 / 3) / 2
    assert lines_of(printed(write_run("a", three)), "label-halluc − logistic-regression")[0][3] == "+15.62 ± 19.04"
    text = printed(write_run("named", three, baseline="svm"))
    assert (
        "logistic-regression − svm" in text
        and "label-halluc − svm" in text
        and "label-halluc − logistic-regression" not in text
    )
    assert "b − z" in printed(write_run("without", {"z": [0.5, 0.6], "b": [0.5, 0.5]})), (
        "the first, if none is logistic-regression"
    )
    damaged = write_run("damaged", FIRST)
    (Path(damaged) / "summary.json").write_text("{")
    assert "label-halluc − logistic-regression" in printed(damaged)


def test_two_methods_can_be_chosen(write_run, printed) -> None:
    a, b = (
        write_run("a"),
        write_run("b", {"support-only": [0.5, 0.5, 0.5, 0.5], "logistic-regression": FIRST["logistic-regression"]}),
    )
    assert "logistic-regression − label-halluc" in printed(a, "--methods", "logistic-regression", "label-halluc")
    text = printed(a, b, "--methods", "label-halluc", "support-only")
    assert lines_of(text, "label-halluc − support-only")[0][0] == "4" and not lines_of(text, "logistic-regression")
    assert lines_of(printed(a, b, "--methods", "lr"), "logistic-regression")[0][4] == "0/4/0"
    assert lines_of(printed(a, "--methods", "label-halluc"), "label-halluc − logistic-regression")


def test_runs_of_other_seeds_are_refused_and_compared_when_forced(write_run, error, printed) -> None:
    a, b = write_run("a"), write_run("b", SECOND, seed=1)
    hashes = [episodes_of(1, seed)[0].hash for seed in (0, 1)]
    assert error(a, b) == (
        f"error: cannot pair {LR} of {a} with {LR} of {b}: of 4 and 4 episodes none is in both; the first that "
        f"differs, episode 0, is {hashes[0]} in {LR} of {a} and {hashes[1]} in {LR} of {b}; run both on the same "
        "episodes (one --seed, or one --manifest), or compare them unpaired with --force-unpaired"
    )
    assert "none is in both" in error(a, b, "--common")
    text = printed(a, b, "--force-unpaired")
    assert "UNPAIRED (Welch's t interval)" in text and "Differs: protocol.seed is 0 in A and 1 in B." in text
    assert lines_of(text, "label-halluc")[0][:2] == ["4", "4"]


def test_a_longer_run_is_refused_unless_the_common_episodes_are_asked_for(write_run, error, printed) -> None:
    a, b = write_run("a"), write_run("b", {"logistic-regression": [0.5, 0.5]})
    message, lone = error(a, b), episodes_of(3, 0)[2].hash
    assert f"the first that differs, episode 2 ({lone} in {LR} of {a}), is missing in {LR} of {b}" in message
    assert "pass --common to compare those 2 only" in message
    text = printed(a, b, "--common")
    assert lines_of(text, "logistic-regression")[0][0] == "2"
    assert "logistic-regression: 2 episodes that only A has and 0 that only B has are left out." in text


def test_a_method_that_is_not_finished_is_refused_within_one_run(write_run, error, printed) -> None:
    a = write_run("a", {"logistic-regression": FIRST["logistic-regression"], "label-halluc": [0.5, 0.5]})
    assert "pass --common to compare those 2 only" in error(a)
    assert lines_of(printed(a, "--common"), "label-halluc − logistic-regression")[0][0] == "2"


@pytest.mark.parametrize(
    ("identity", "difference"),
    [
        ({"novel_table": "other"}, 'novel_table is "table" in A and "other" in B'),
        (
            {"novel_table": "other", "benchmark": "fc100"},
            'novel_table is "table" in A and "other" in B (benchmarks omniglot and fc100)',
        ),
        ({"protocol": {**PROTOCOL, "n_shot": 5}}, "protocol.n_shot is 1 in A and 5 in B"),
        ({"protocol": {**PROTOCOL, "split": "validation"}}, 'protocol.split is "test" in A and "validation" in B'),
    ],
)
def test_other_images_or_protocols_are_refused(write_run, error, printed, identity, difference) -> None:
    a, b = write_run("a"), write_run("b", SECOND, **identity)
    for flags in ([], ["--common"]):
        assert error(a, b, *flags) == (
            f"error: cannot pair A = {a} with B = {b}: {difference}; compare runs of one benchmark, split and "
            "protocol, or compare them unpaired with --force-unpaired"
        )
    assert f"Differs: {difference}." in printed(a, b, "--force-unpaired")


def test_another_setting_of_a_method_is_allowed_and_said(write_run, printed) -> None:
    a = write_run("a", configs={"label-halluc": {"temperature": 4.0}})
    b = write_run("b", configs={"label-halluc": {"temperature": 2.0}})
    assert "Differs: methods.label-halluc.temperature is 4.0 in A and 2.0 in B." in printed(a, b)
    assert "Differs" not in printed(a, b, "--methods", "logistic-regression")


def test_the_same_written_episodes_pair_whatever_the_seeds(write_run, printed) -> None:
    a, b = write_run("a"), write_run("b", SECOND, protocol={**PROTOCOL, "seed": 7})
    assert "Differs: protocol.seed is 0 in A and 7 in B." in printed(a, b)


def test_a_run_without_row_ids_says_so_and_takes_those_of_the_other(write_run, printed) -> None:
    a, b, c = write_run("a", row_ids=False), write_run("b", SECOND, row_ids=False), write_run("c", SECOND)
    text = printed(a, b)
    assert f"No episodes.parquet in {a} or {b}: which episodes share images is not known" in text
    assert "without replacement: n is" not in text and len(lines_of(text, "logistic-regression")) == 2
    assert len(lines_of(printed(a, c), "logistic-regression")) == 3


def test_failed_episodes_are_said(write_run, printed) -> None:
    text = printed(write_run("a"), write_run("b", {"logistic-regression": [0.5, None, 0.5, 0.5]}))
    assert "logistic-regression: 0 episodes failed in A and 1 in B; they are in no figure." in text
    assert lines_of(text, "logistic-regression")[0][0] == "3"


def test_a_location_may_be_a_uri(write_run, printed) -> None:
    a, b = write_run("a"), write_run("b", SECOND)
    assert len(lines_of(printed(f"file://{a}", f"file://{b}"), "logistic-regression")) == 3


def test_the_target_sets_the_episodes_needed(write_run, printed) -> None:
    a, b = write_run("a"), write_run("b", SECOND)
    text = printed(a, b, "--target", "5")
    assert "A − B ± 5\n" in text
    assert int(lines_of(text, "logistic-regression")[2][3]) < int(
        lines_of(printed(a, b), "logistic-regression")[2][3].replace(",", "")
    )


def test_wrong_runs_and_methods_are_refused(write_run, error, tmp_path) -> None:
    a, other = write_run("a"), write_run("other", {"svm": [0.5, 0.5, 0.5, 0.5]})
    message = error(a, str(tmp_path / "missing"))
    assert "missing has no manifest.json: it is not a run directory; give the folder that holds that file" in message
    with RunDirectory(str(tmp_path / "empty")).open({}, {}, {"logistic-regression": {}}):
        pass
    assert "has no rows yet" in error(a, str(tmp_path / "empty"))
    assert f"{a} has no rows of method 'knn'; it has rows of logistic-regression, label-halluc" in error(
        a, "--methods", "knn", "logistic-regression"
    )
    assert f"{a} has rows of logistic-regression, label-halluc and {other} of svm: no method is in both" in error(
        a, other
    )
    assert "its baseline is svm, which cannot be compared with itself" in error(other)
    (Path(a) / EPISODE_FILE).write_bytes(b"PAR1")
    assert f"{a}/episodes.parquet: cannot read the episode file" in error(a)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["a", "b", "c"], "3 runs were given: 'a b c'; expected one or two"),
        ([], "0 runs were given"),
        (["--methods", "x", "y", "z"], "0 runs were given"),
        (["a", "--methods", "x", "y", "z"], "--methods is 'x y z'; expected one or two names, and the runs before"),
        (["a", "--methods", "x", "x"], "of one run, two methods must be two"),
        (["a", "--target", "0"], "--target is 0.0; expected a positive number"),
        (["a", "b", "--common", "--force-unpaired"], "--common pairs episodes and --force-unpaired does not"),
        (["a", "b", "--figure", "x.svg", "--force-unpaired"], "--figure draws pairs"),
        (["a", "b", "--figure", "x.png"], "--figure is 'x.png'; expected a name that ends in .svg"),
    ],
)
def test_a_wrong_flag_says_what_was_given_and_what_is_expected(error, flags, expected) -> None:
    assert expected in error(*flags)


def test_a_file_that_cannot_be_written_is_an_input_error(write_run, capsys) -> None:
    assert compare(write_run("a"), "--json", "/proc/nowhere/c.json") == 2
    assert "cannot write --json /proc/nowhere/c.json" in capsys.readouterr().err
