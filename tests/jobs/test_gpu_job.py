"""Jobs on a Ray node with a GPU, a pretended one: base bank, workers, captured steps, a training."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ray_head import address_of, ray_head

from rayfs.runs.run_directory import RunDirectory

pytestmark = [
    pytest.mark.ray, pytest.mark.long,
    pytest.mark.skipif(torch.cuda.is_available(), reason="here the jobs themselves find a GPU"),
]  # fmt: skip

ROOT = Path(__file__).parents[2]
PRETEND = f"""
import sys
if any(part in word for word in sys.orig_argv for part in ("default_worker.py", "jobs/")):
    sys.path.insert(0, {str(ROOT / "tests")!r})
    from pretended_gpu import pretended_gpu
    context = pretended_gpu()
    context.__enter__()
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of jobs on a node with two CPUs and a GPU, all of whose Python processes pretend."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(PRETEND)
    found = {
        **os.environ, "PYTHONPATH": str(site), "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0",
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    found.pop("RAY_ADDRESS", None)
    with ray_head(found, "--num-gpus=1") as (_, folder):
        yield {**found, "RAY_ADDRESS": address_of(folder)}


def run(environment: dict[str, str], *command: str) -> str:
    result = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_episodes_are_solved_on_the_gpu_op_by_op_and_replayed(environment, tmp_path) -> None:
    rows = {}
    for execution in ("eager", "graph"):
        out = tmp_path / execution
        printed = run(
            environment, "jobs/label_halluc_eval.py", "--n-way", "5", "--n-query", "3", "--steps", "6", "--episodes",
            "4", "--gpus-per-worker", "0.5", "--execution", execution, "--out", str(out),
        )  # fmt: skip
        assert "2 workers with 1 CPUs and 0.5 GPUs each" in printed
        rows[execution] = {(row.episode, row.method): row for row in RunDirectory(str(out)).rows()}
        assert all(row.status == "ok" and row.device == "pretended GPU" for row in rows[execution].values())
    assert rows["eager"].keys() == rows["graph"].keys() and len(rows["eager"]) == 8
    for key, row in rows["eager"].items():
        assert row.predictions == rows["graph"][key].predictions and row.loss_base == rows["graph"][key].loss_base


def test_networks_are_trained_and_embeddings_evaluated_on_the_gpu(environment, tmp_path) -> None:
    out = tmp_path / "conv4.safetensors"
    training = ["--benchmark", "omniglot", "--image-size", "20", "--epochs", "1", "--validation-episodes", "4"]
    printed = run(environment, "jobs/pretrain.py", *training, "--device", "cuda", "--workers", "0", "--out", str(out))
    assert "1 worker, cuda, bf16" in printed and out.exists()
    printed = run(
        environment, "jobs/evaluate_embedding.py", "--image-size", "20", "--checkpoint", str(out), "--episodes", "20",
        "--device", "cuda", "--out", str(tmp_path / "embedding"),
    )  # fmt: skip
    assert printed.count("done 20/20 | logistic-regression") >= 2
