"""The embedding job as users run it, and what it says to wrong input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rayfs.experiments.embeddings.flags import EmbeddingEvalConfig
from rayfs.experiments.embeddings.job import run_evaluate_embedding
from rayfs.flags.command_line import run_job
from rayfs.flags.parsing import configured
from rayfs.methods.classifiers import registry
from rayfs.runs.rows import scientific_columns
from rayfs.runs.run_directory import RunDirectory

ROOT = Path(__file__).parents[2]
FLAGS = ["--split", "validation", "--n-shot", "1", "5", "--n-query", "10", "--support-views", "2", "--device", "cpu"]


def embedding(*argv: str) -> int:
    """Run the job in this process, as the script does."""
    return run_job(lambda config: run_evaluate_embedding(config, ["python", "job"]), EmbeddingEvalConfig, None, argv)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = str(tmp_path_factory.mktemp("cache"))
    return {**os.environ, "RAY_ADDRESS": "local", "RAYFS_CACHE": cache}


def run(out: Path, environment: dict[str, str], *flags: str) -> str:
    """Run the script, and return what it printed."""
    command = [sys.executable, "jobs/evaluate_embedding.py", *FLAGS, "--out", str(out), *flags]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> tuple[Path, str]:
    """An uninterrupted run of 300 episodes, more than a block, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, run(out, environment, "--episodes", "300")


@pytest.mark.ray
@pytest.mark.slow
def test_the_script_computes_features_and_prints_a_table_for_each_number_of_shots(finished) -> None:
    out, printed = finished
    assert "computing conv4 features, 2 views, of 340 images" in printed
    assert printed.count("done 300/300 | logistic-regression") >= 2 and printed.count("win/tie/loss") == 2
    for n_shot in (1, 5):
        summary = json.loads((out / f"{n_shot}-shot" / "summary.json").read_text())
        assert summary["protocol"]["n_shot"] == n_shot and summary["protocol"]["episodes"] == 300
        assert list(summary["methods"]) == list(registry.names())
        for name, figures in summary["methods"].items():
            assert figures["n"] == figures["n_distinct"] == 300
            assert figures["accuracy"] > 80 and figures["ci95"] > 0
            assert (figures["gain"] is None) == (name == "logistic-regression")


@pytest.mark.ray
@pytest.mark.slow
def test_rows_hold_predictions_that_give_their_accuracy(finished) -> None:
    rows = RunDirectory(str(finished[0] / "5-shot")).rows()
    assert len(rows) == 1500
    for row in rows:
        assert row.accuracy == sum(map(int.__eq__, row.predictions, row.labels)) / 50
    assert len({row.episode_hash for row in rows}) == 300 and len({row.config_hash for row in rows}) == 5


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_continues_in_episodes_and_classifiers_without_computing_anything_twice(
    finished, environment, tmp_path
) -> None:
    out = tmp_path / "run"
    printed = run(out, environment, "--episodes", "40", "--classifiers", "logistic-regression", "cosine")
    assert "computing" not in printed, "the features are in the cache"
    first = {path: path.read_bytes() for path in (out / "5-shot" / "episodes").iterdir()}
    printed = run(out, environment, "--episodes", "300")
    assert all(path.read_bytes() == content for path, content in first.items())
    for n_shot in ("1-shot", "5-shot"):
        rows = RunDirectory(str(out / n_shot)).rows()
        assert scientific_columns(rows) == scientific_columns(RunDirectory(str(finished[0] / n_shot)).rows())
    parts = sorted((out / "5-shot" / "episodes").iterdir())
    printed = run(out, environment, "--episodes", "300")
    assert "done" not in printed and "Seconds" not in printed and printed.count("\nlogistic-regression │") == 2
    assert parts == sorted((out / "5-shot" / "episodes").iterdir())


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--benchmark", "imagenet"], "--benchmark is 'imagenet'; expected one of omniglot"),
        (["--benchmark", "cifar100-lt", "--data", "."], "has the same classes in every split, so there are no novel"),
        (["--benchmark", "folder"], "needs --data DIR"),
        (["--image-size", "32"], "no embedding for benchmark 'omniglot' at 32 px"),
        (["--checkpoint", "absent.safetensors"], "checkpoint absent.safetensors does not exist"),
        (["--episodes", "0"], "--episodes is 0; expected at least 1"),
        (["--threads", "0"], "--threads is 0; expected at least 1"),
        (["--n-way", "1"], "n_way is 1"),
        (["--n-way", "90"], "has 89 classes but the protocol asks for 90-way"),
        (["--n-shot", "1", "6"], "has 20 images but an episode takes 6 support + 15 query = 21"),
        (["--n-shot", "5", "5"], "--n-shot is '5 5'; expected one or more, each once"),
        (
            ["--classifiers", "logistic-regression", "maml"],
            "--classifiers is 'logistic-regression maml'; expected some of logistic-regression, nearest-neighbour",
        ),
        (["--classifiers", "svm", "svm"], "each once"),
        (["--support-views", "-1"], "--support-views is -1; expected 0 or more"),
        (["--view-seed", "-1"], "--view-seed is -1; expected 0 or more"),
        (["--c", "0"], "--c is 0.0; expected a positive number"),
        (["--svm-c", "inf"], "--svm-c is inf; expected a positive number"),
        (["--benchmark", "omniglot-one-shot", "--n-shot", "1"], "has 2 images but an episode takes 1 support + 15"),
        (["--benchmark", "omniglot-one-shot", "--n-shot", "1", "--n-query", "1"], "--n-way 20"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_two(flags, expected, tmp_path, capsys) -> None:
    assert embedding("--out", str(tmp_path / "run"), *flags) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and expected in errors[0], captured.err
    assert "Traceback" not in captured.out + captured.err
    assert not (tmp_path / "run").exists()


def test_a_run_with_other_settings_is_refused_before_any_work(tmp_path, capsys) -> None:
    from rayfs.datasets.image_table import cache_folder
    from rayfs.experiments.embeddings.experiment import prepare_evaluations

    known = prepare_evaluations(configured(EmbeddingEvalConfig, n_shot=(1,), episodes=5), cache_folder())[0]
    with RunDirectory(str(tmp_path / "run" / "1-shot")).open(known.identity(), {}, known.method_identities()):
        pass
    for flags, expected in (
        (["--n-query", "9"], "protocol.n_query was 15 and is now 9"),
        (["--c", "2"], "methods.logistic-regression.c was 1.0 and is now 2.0"),
        (["--support-views", "3"], "support_views was 5 and is now 3"),
        (["--no-normalize"], "normalize was true and is now false"),
        (["--view-seed", "3"], "view_seed was 0 and is now 3"),
    ):
        assert embedding("--n-shot", "1", "--out", str(tmp_path / "run"), *flags) == 2
        assert expected in capsys.readouterr().err


def test_the_script_answers_help_without_importing_torch() -> None:
    before = os.times()
    command = [sys.executable, "jobs/evaluate_embedding.py", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert "--support-views" in result.stdout and used < 1.0
