"""The long-tail job on a small ImageNet-LT of noise: features by Ray, tables, files, and its answers to wrong input."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rayfs.backbones.checkpoints import load_checkpoint, read_heads, save_checkpoint
from rayfs.backbones.heads import CosineHead
from rayfs.backbones.registry import create_backbone
from rayfs.datasets.augmentation import normalize, plain_view
from rayfs.datasets.image_table import cache_folder, load_table
from rayfs.datasets.registry import open_benchmark
from rayfs.distributed import table_features
from rayfs.distributed.session import Resources
from rayfs.engine.bank import embed_table
from rayfs.experiments.long_tail.flags import LongTailEvalConfig
from rayfs.experiments.long_tail.job import run_long_tail_eval
from rayfs.experiments.training.job import run_pretraining
from rayfs.experiments.tuning.flags import TuneConfig
from rayfs.experiments.tuning.job import run_tune
from rayfs.flags.command_line import run_job
from rayfs.randomness import torch_generator
from rayfs.training.config import PretrainConfig

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


UNSEEN = ("0001 n1", "0004 n4")
"""Medium and rare: with 6 and 2 training images."""


@pytest.fixture(scope="module")
def partial_checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a network on the other four classes, by the job that does it."""
    out = tmp_path_factory.mktemp("partial") / "net.safetensors"
    run_pretraining(
        benchmark="imagenet-lt", data=str(data), image_size=SIZE, backbone="conv4-32", out=out, workers=0, device="cpu",
        threads=1, command=["job"], config=PretrainConfig(objective="cosine", epochs=1, batch=8, lr=0.05),
        base_classes=[f"not:{name}" for name in UNSEEN],
    )  # fmt: skip
    return out


@pytest.mark.ray
def test_classes_that_training_left_out_are_recognised_by_prototypes_and_transfer(
    data: Path, partial_checkpoint: Path, tmp_path: Path, resources: Resources, capsys: pytest.CaptureFixture
) -> None:
    """Features again without Ray, and equations 3 to 6 and 9 class by class."""
    out, flags = tmp_path / "run", (*FLAGS, "--data", str(data), "--checkpoint", str(partial_checkpoint))
    assert job(*flags, "--k", "0", "2", "--out", str(out)) == 0
    assert "2 of 6 classes were not seen in training" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["classifiers"]) == ["cosine", "prototypes", "w^hc(2)", "continual ensemble"]
    assert summary["unseen"] == list(UNSEEN) and summary["settings"]["thresholds"] == [2]
    rows = pq.read_table(out / "classes.parquet").to_pylist()
    backbone = create_backbone("conv4-32", 3, SIZE, torch_generator(0, "other weights"))
    load_checkpoint(partial_checkpoint, backbone)
    (train, labels), (test, test_labels) = (features_by_hand(data, backbone, split) for split in ("base", "test"))
    seen = [c for c in range(6) if c not in (1, 4)]
    weights = dict(zip(seen, map(unit, read_heads(partial_checkpoint, backbone)["classifier.weight"]), strict=True))
    made = {}
    for c in range(6):
        prototype = np.mean([unit(feature) for feature in train[labels == c]], axis=0)
        alphas = {j: np.exp(10 * unit(prototype) @ weights[j]) for j in seen if COUNTS[j] > 2}
        transferred = sum(alpha * weights[j] for j, alpha in alphas.items())
        made[c] = unit(transferred) + unit(prototype)
    for name, centres in (("w^hc(2)", made), ("cosine", weights)):
        answers = np.array([max(centres, key=lambda c: x @ unit(centres[c])) for x in test])
        right = [int(((answers == c) & (test_labels == c)).sum()) for c in range(6)]
        found = [row["n_correct"] for row in rows if row["classifier"] == name]
        assert found == [right[c] if c in centres else None for c in range(6)], name


def unit(vector) -> np.ndarray:
    vector = np.asarray(vector, dtype=np.float64)
    return vector / np.linalg.norm(vector)


def test_flags_that_need_weights_of_unseen_classes_are_refused(data, partial_checkpoint, tmp_path, capsys) -> None:
    whole = write_checkpoint(tmp_path / "whole.safetensors", 3)
    damaged = []
    for name, change in (
        ("names", {"classes": ["0000 n0", "0002 n2", "0003 n3", "n9"]}),
        ("others", {"classes": ["0000 n0", "0001 n1", "0002 n2", "0003 n3"]}),
        ("silent", {"classes": None}),
    ):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(partial_checkpoint.read_bytes())
        content = json.loads(partial_checkpoint.with_suffix(".json").read_text())
        content["metadata"] |= change
        path.with_suffix(".json").write_text(json.dumps(content))
        damaged.append(str(path))
    for flags, expected in (
        (["--search", "5", "--attention", "w-w"], "--search, --attention w-w: not for checkpoint"),
        (["--continual"], "--continual: not for checkpoint"),
        (["--k", "0", "9"], "k is 9 but no class that the head knows has more than 9 training images (the most is 9)"),
        (["--checkpoint", str(partial_checkpoint), str(whole)], "were trained on 4 and 6 classes, not the same ones"),
        (["--checkpoint", damaged[0]], "1 of the 4 classes that checkpoint"),
        (["--checkpoint", damaged[1]], "was trained on other images"),
        (["--checkpoint", damaged[2]], "was trained on other images"),
    ):
        assert job(*FLAGS, "--data", str(data), "--checkpoint", str(partial_checkpoint), "--k", "0", "2", *flags) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and expected in errors[0], errors


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
    backbone = create_backbone("conv4-32", 3, SIZE, torch_generator(seed, "backbone"))
    head = CosineHead(32, len(COUNTS), 16.0, generator=torch_generator(seed, "head"))
    features, labels = features_by_hand(data, backbone, "test")
    with torch.no_grad():
        answers = head(torch.from_numpy(features)).argmax(1).numpy()
    return [int((answers[labels == c] == c).sum()) for c in range(len(COUNTS))]


def features_by_hand(data: Path, backbone: torch.nn.Module, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the features (N, D) and labels (N,) of a split, without Ray."""
    benchmark = open_benchmark("imagenet-lt", str(data), SIZE)
    table = load_table(benchmark.source(split, cache_folder()), cache_folder(), channels=3, image_size=SIZE)
    features = embed_table(
        table, backbone.eval(), lambda images: normalize(plain_view(images), benchmark.mean, benchmark.std),
        torch.device("cpu"),
    )  # fmt: skip
    return features, table.labels


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
