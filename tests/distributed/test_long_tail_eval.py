"""The long-tail job on a small ImageNet-LT of noise: features by Ray, tables, files, and its answers to wrong input."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rayfs.backbones.checkpoints import save_checkpoint
from rayfs.backbones.heads import CosineHead
from rayfs.backbones.registry import create_backbone
from rayfs.benchmarks.augmentation import normalize, plain_view
from rayfs.benchmarks.registry import open_benchmark
from rayfs.benchmarks.tables import cache_folder, load_table
from rayfs.command_line import run_job
from rayfs.distributed import table_features
from rayfs.distributed.long_tail_eval import run_long_tail_eval
from rayfs.distributed.long_tail_eval_config import LongTailEvalConfig
from rayfs.distributed.runtime import Resources
from rayfs.distributed.tune import run_tune
from rayfs.distributed.tune_config import TuneConfig
from rayfs.engine.bank import embed_table
from rayfs.randomness import torch_generator

COUNTS = (9, 6, 5, 3, 2, 1)
SIZE = 16
FLAGS = ("--benchmark", "imagenet-lt", "--image-size", str(SIZE), "--backbone", "conv4-32", "--device", "cpu",
         "--resamples", "50")  # fmt: skip


def job(*argv: str) -> int:
    """Run the job in this process, as the script does."""
    return run_job(lambda config: run_long_tail_eval(config, ["python", "job"]), LongTailEvalConfig, None, argv)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of 9 to 1 training images, 2 validation images of all but the first, and 3 test images of each."""
    root = tmp_path_factory.mktemp("imagenet-lt")
    generator = np.random.Generator(np.random.Philox(1))
    for name, counts in (("train", COUNTS), ("val", (0, 2, 2, 2, 2, 2)), ("test", (3,) * 6)):
        lines = []
        for label, n in enumerate(counts):
            shade = 40 * label + 20
            for i in range(n):
                image = f"{name}/n{label}/{i}.png"
                (root / image).parent.mkdir(parents=True, exist_ok=True)
                pixels = np.clip(shade + generator.normal(0, 40, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / image)
                lines.append(f"{image} {label}")
        (root / f"ImageNet_LT_{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def write_checkpoint(path: Path, seed: int, n_classes: int = len(COUNTS), **metadata: object) -> Path:
    """Write an untrained network with a cosine head."""
    backbone = create_backbone("conv4-32", 3, SIZE, torch_generator(seed, "backbone"))
    head = CosineHead(32, n_classes, 16.0, generator=torch_generator(seed, "head"))
    heads = {f"classifier.{name}": tensor for name, tensor in head.state_dict().items()}
    save_checkpoint(path, backbone, {"backbone": "conv4-32", **metadata}, heads)
    return path


@pytest.mark.ray
def test_the_job_evaluates_every_classifier_and_computes_nothing_twice(
    data: Path, tmp_path: Path, resources: Resources, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path / "net.safetensors", 3)
    out = tmp_path / "run"
    flags = (*FLAGS, "--data", str(data), "--checkpoint", str(path), "--k", "0", "2", "5", "--search", "60", "--out",
             str(out))  # fmt: skip
    assert job(*flags) == 0
    printed = capsys.readouterr().out
    assert "ensemble (tables 1 and 2, ResNeXt-50, square root)" in printed and "w^h(5)" in printed
    assert "searched 60 settings on 10 validation images" in printed
    rows = pq.read_table(out / "classes.parquet").to_pylist()
    assert len(rows) == 11 * len(COUNTS)
    assert [row["n_train"] for row in rows if row["classifier"] == "cosine"] == list(COUNTS)
    right = [row["n_correct"] for row in rows if row["classifier"] == "cosine"]
    assert right == cosine_by_hand(data, 3)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["classifiers"]["cosine"]["accuracy"]["all"]["value"] == pytest.approx(100 * sum(right) / 18)
    assert "data:image/png" in (out / "report.html").read_text()
    monkeypatch.setattr(table_features, "run_data_task", lambda *_: pytest.fail("computed again"))
    first = {name: (out / name).read_bytes() for name in ("classes.parquet", "table.csv", "table.md")}
    assert job(*flags) == 0
    assert first == {name: (out / name).read_bytes() for name in first}
    assert job(*flags, "--tau", "3") == 2
    assert "tau was 10.0 and is now 3.0" in capsys.readouterr().err


@pytest.mark.ray
def test_a_search_by_ray_tune_scores_missing_blocks_only_and_test_images_once(
    data: Path, tmp_path: Path, resources: Resources, capsys: pytest.CaptureFixture
) -> None:
    path, out = write_checkpoint(tmp_path / "net.safetensors", 3), tmp_path / "search"
    flags = ["--method", "compositional", "--benchmark", "imagenet-lt", "--data", str(data), "--image-size", str(SIZE),
             "--backbone", "conv4-32", "--checkpoint", str(path), "--out", str(out)]  # fmt: skip

    def tune(*more: str) -> int:
        return run_job(lambda config: run_tune(config, ["python", "job"]), TuneConfig, None, [*flags, *more])

    assert tune("--n-trials", "150") == 0
    printed = capsys.readouterr().out
    assert "2 blocks of 100 settings" in printed and "jobs/long_tail_eval.py --benchmark imagenet-lt" in printed
    blocks = {file: file.read_bytes() for file in (out / "blocks").iterdir()}
    assert len(blocks) == 2 and not (out / "final").exists()
    assert tune("--n-trials", "250", "--final") == 0
    assert "tuned ensemble" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in blocks} == blocks and len(list((out / "blocks").iterdir())) == 3
    assert "tuned ensemble" in json.loads((out / "final" / "summary.json").read_text())["classifiers"]
    state = json.loads((out / "search.json").read_text())
    state["final"]["tau"] += 1
    (out / "search.json").write_text(json.dumps(state))
    assert tune("--n-trials", "250", "--final") == 2
    assert "test images were used already" in capsys.readouterr().err


def cosine_by_hand(data: Path, seed: int) -> list[int]:
    """Return how many test images of each class the trained head gets right, without Ray."""
    benchmark = open_benchmark("imagenet-lt", str(data), SIZE)
    table = load_table(benchmark.source("test", cache_folder()), cache_folder(), channels=3, image_size=SIZE)
    backbone = create_backbone("conv4-32", 3, SIZE, torch_generator(seed, "backbone")).eval()
    head = CosineHead(32, len(COUNTS), 16.0, generator=torch_generator(seed, "head"))
    features = embed_table(
        table, backbone, lambda images: normalize(plain_view(images), benchmark.mean, benchmark.std),
        torch.device("cpu"),
    )  # fmt: skip
    with torch.no_grad():
        answers = head(torch.from_numpy(features)).argmax(1).numpy()
    return [int((answers[table.labels == c] == c).sum()) for c in range(len(COUNTS))]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--benchmark", "omniglot"], "--benchmark omniglot has other classes in every split"),
        (["--k", "20", "20"], "--k is '20 20'; expected one or more of at least 0, each once"),
        (["--k", "-1"], "--k is '-1'"),
        (["--tau", "inf"], "--tau is inf"),
        (["--scale", "0"], "--scale is 0.0"),
        (["--resamples", "1"], "--resamples is 1; expected at least 2"),
        (["--search", "5", "--split", "validation"], "--search chooses on validation images"),
        (["--checkpoint", "a.pth", "a.pth"], "expected each once"),
        (["--checkpoint", "absent.safetensors"], "checkpoint absent.safetensors does not exist"),
        ([], "no embedding for benchmark 'imagenet-lt' at 16 px with backbone 'conv4-32'"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_two(flags, expected, data, tmp_path, capsys) -> None:
    own_data = () if "omniglot" in flags else ("--data", str(data))
    given = [flag for flag in FLAGS if flag not in ("--image-size", str(SIZE))] if "omniglot" in flags else FLAGS
    assert job(*given, *own_data, "--out", str(tmp_path / "run"), *flags) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and expected in errors[0], errors
    assert not (tmp_path / "run").exists()


def test_checkpoints_that_do_not_fit_are_refused_before_any_work(data, tmp_path, capsys) -> None:
    bare = tmp_path / "bare.safetensors"
    save_checkpoint(bare, create_backbone("conv4-32", 3, SIZE, torch_generator(0, "backbone")), {})
    for path, expected in (
        (bare, "has no cosine head (classifier.weight and classifier.scale; found: none)"),
        (write_checkpoint(tmp_path / "four.safetensors", 0, n_classes=4), "the head of checkpoint"),
        (write_checkpoint(tmp_path / "other.safetensors", 0, identity={"base_table": "f00"}), "on other images"),
    ):
        assert job(*FLAGS, "--data", str(data), "--checkpoint", str(path)) == 2
        assert expected in capsys.readouterr().err
