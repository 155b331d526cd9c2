"""Wrong input: one clear error with the numbers and the fix, exit code 2, no traceback, before any work."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.episodes.job import run_label_halluc_eval
from rayfs.flags.command_line import run_job
from rayfs.flags.parsing import configured


def evaluate(*argv: str) -> int:
    """Run the main job in this process, as the script does."""
    return run_job(lambda config: run_label_halluc_eval(config, ["python", "job"]), EvalConfig, None, argv)


@pytest.fixture
def error(capsys: pytest.CaptureFixture[str]):
    """Run the job with wrong input; return its one message."""

    def run(*argv: str) -> str:
        code = evaluate(*argv)
        captured = capsys.readouterr()
        assert code == 2, captured.out
        assert "Traceback" not in captured.out + captured.err
        lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, captured.err
        return lines[0]

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A benchmark folder: 4 base, 3 validation and 3 test classes of 8 images, PNG and JPEG, grey and colour."""
    generator = np.random.default_rng(0)
    for split, n_classes in (("train", 4), ("val", 3), ("test", 3)):
        for c in range(n_classes):
            path = tmp_path / "data" / split / f"{split}{c}"
            path.mkdir(parents=True)
            for i in range(8):
                shape = (20 + i, 24, 3) if i % 2 else (24, 20 + i)
                picture = Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))
                picture.save(path / f"{i}.{'png' if i % 3 else 'jpg'}")
    return tmp_path / "data"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Random Conv-4 weights for colour images."""
    from rayfs.backbones import create_backbone, save_checkpoint
    from rayfs.randomness import torch_generator

    path = tmp_path / "conv4.safetensors"
    save_checkpoint(path, create_backbone("conv4", 3, 32, torch_generator(0, "test")), {})
    return path


def folder_flags(folder: Path, checkpoint: Path, **changed: str) -> list[str]:
    flags = {
        "benchmark": "folder", "data": str(folder), "image-size": "32", "checkpoint": str(checkpoint), "n-way": "3",
        "n-shot": "1", "n-query": "2", "episodes": "2", "steps": "1", "support-views": "1",
        "out": str(folder.parent / "run"), **changed,
    }  # fmt: skip
    return [part for name, value in flags.items() for part in (f"--{name}", value)]


def test_right_input_passes_the_check(folder, checkpoint, capsys) -> None:
    assert evaluate(*folder_flags(folder, checkpoint), "--check") == 0
    assert "check passed" in capsys.readouterr().out
    assert not (folder.parent / "run").exists(), "a check writes nothing"


def test_five_way_episodes_of_three_classes(error, folder, checkpoint) -> None:
    message = error(*folder_flags(folder, checkpoint, **{"n-way": "5"}))
    assert message == (
        "error: split 'test' has 3 classes but the protocol asks for 5-way episodes; lower --n-way to 3 or use a split "
        "with more classes"
    )


def test_a_class_with_too_few_images(error, folder, checkpoint) -> None:
    for path in sorted((folder / "test" / "test1").iterdir())[2:]:
        path.unlink()
    message = error(*folder_flags(folder, checkpoint))
    assert "class 'test1' of split 'test' has 2 images but an episode takes 1 support + 2 query = 3" in message
    assert "lower --n-query to 1" in message


def test_a_check_decodes_the_base_images_too(error, folder, checkpoint) -> None:
    broken = folder / "train" / "train3" / "5.png"
    broken.write_bytes(broken.read_bytes()[:50])
    assert f"{broken}: cannot decode the image (50 bytes" in error(*folder_flags(folder, checkpoint), "--check")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n and no more", b"text"])
def test_a_corrupt_image(error, folder, checkpoint, content: bytes) -> None:
    broken = folder / "test" / "test2" / "4.png"
    broken.write_bytes(content)
    message = error(*folder_flags(folder, checkpoint))
    assert str(broken) in message and "remove" in message


def test_a_missing_path(error, folder, checkpoint) -> None:
    message = error(*folder_flags(folder, checkpoint, data="/no/such/folder"))
    assert message.startswith("error: --data /no/such/folder: there is no such folder; pass --data DIR")
    message = error(*folder_flags(folder, Path("/no/such/file.safetensors")))
    assert "/no/such/file.safetensors" in message


def test_a_checkpoint_of_another_backbone_names_its_tensors(error, folder, checkpoint) -> None:
    message = error(*folder_flags(folder, checkpoint, backbone="resnet12"))
    assert "missing" in message and "layer1.0.conv1.weight" in message and "--backbone" in message


def test_kept_activations_of_a_backbone_that_cannot_be_split(error, folder, tmp_path) -> None:
    from rayfs.backbones import create_backbone, save_checkpoint
    from rayfs.randomness import torch_generator

    path = tmp_path / "resnet18.safetensors"
    save_checkpoint(path, create_backbone("resnet18", 3, 32, torch_generator(0, "test")), {})
    flags = folder_flags(folder, path, backbone="resnet18", **{"frozen-blocks": "1", "frozen-views": "2"})
    assert "cannot be split behind its first 1 blocks" in error(*flags)


def test_a_checkpoint_with_an_extra_tensor(error, folder, checkpoint, tmp_path) -> None:
    from safetensors.torch import load_file

    save_file({**load_file(checkpoint), "surprise.weight": torch.zeros(2)}, tmp_path / "extra.safetensors")
    assert "surprise.weight" in error(*folder_flags(folder, tmp_path / "extra.safetensors"))


def test_an_existing_run_with_another_configuration(error, folder, checkpoint) -> None:
    from rayfs.datasets.image_table import cache_folder
    from rayfs.experiments.episodes.job import build_experiment, open_run

    config = configured(
        EvalConfig,
        benchmark="folder", data=str(folder), image_size=32, checkpoint=checkpoint, n_way=3, n_shot=1, n_query=2,
        episodes=2, steps=1, support_views=1, check=True,
    )  # fmt: skip
    out = folder.parent / "run"
    open_run(build_experiment(config, cache_folder()), str(out), ["x"]).close()
    before = (out / "manifest.json").read_bytes()
    assert evaluate(*folder_flags(folder, checkpoint), "--check") == 0
    message = error(*folder_flags(folder, checkpoint, seed="1"))
    assert "protocol.seed was 0 and is now 1" in message and "another --out" in message
    message = error(*folder_flags(folder, checkpoint, temperature="2"))
    assert "methods.label-halluc.temperature was 4.0 and is now 2.0" in message
    assert (out / "manifest.json").read_bytes() == before


def test_a_folder_of_other_files_is_not_overwritten(error, folder, checkpoint) -> None:
    out = folder.parent / "run"
    out.mkdir()
    (out / "thesis.tex").write_text("ten years of work")
    assert "not a run directory" in error(*folder_flags(folder, checkpoint))
    assert (out / "thesis.tex").read_text() == "ten years of work"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--benchmark", "imagenet"], "--benchmark is 'imagenet'; expected one of omniglot"),
        (["--benchmark", "cifar100-lt", "--data", "."], "has the same classes in every split, so there are no novel"),
        (["--benchmark", "folder"], "needs --data DIR"),
        (["--data", "/tmp"], "is embedded in the package and takes no --data"),
        (["--image-size", "8"], "expected 16 to 512"),
        (["--image-size", "64"], "no embedding for benchmark 'omniglot' at 64 px"),
        (["--backbone", "resnet12"], "no embedding for benchmark 'omniglot' at 28 px with backbone 'resnet12'"),
        (["--backbone", "vgg"], "vgg"),
        (["--episodes", "0"], "--episodes is 0; expected at least 1"),
        (["--n-way", "1"], "n_way is 1"),
        (["--n-way", "90"], "has 89 classes but the protocol asks for 90-way"),
        (["--n-query", "20"], "has 20 images but an episode takes 1 support + 20 query = 21"),
        (["--steps", "0"], "steps is 0"),
        (["--temperature", "0"], "temperature is 0.0; expected a positive number"),
        (["--lr", "-1"], "lr is -1.0; expected a positive number"),
        (["--lambda-kl", "-1"], "--lambda-kl is -1.0"),
        (["--momentum", "1"], "momentum is 1.0"),
        (["--base-batch", "3000"], "--base-batch is 3000 but label-halluc uses 2720 base images"),
        (["--base-fraction", "0.01", "--base-batch", "200"], "but label-halluc uses 136 base images of 136 classes"),
        (
            ["--methods", "lr", "maml"],
            "there is no method 'maml'; expected some of logistic-regression, nearest",
        ),
        (
            ["--methods", "lr", "lr:c=1"],
            "these are the settings of logistic-regression anyway; drop them or change them",
        ),
        (["--methods", "lr", "--steps", "3"], "--steps changes nothing: it is a setting of support-only, hard-label"),
        (["--related-classes", "3"], "--related-classes changes nothing in label-halluc, where base-subset is all"),
        (["--imbalance-ratio", "10"], "--base-imbalance is 'none' with --imbalance-ratio 10"),
        (["--dropout", "off"], "--dropout off of label-halluc changes nothing: conv4 has no dropout"),
        (["--frozen-blocks", "4"], "--frozen-blocks of label-halluc is 4 but conv4 has 4 blocks; at most 3"),
        (["--frozen-views", "2"], "--frozen-views is 2 but --frozen-blocks is 0"),
        (["--frozen-blocks", "1", "--frozen-views", "-1"], "--frozen-views is -1; expected 0 or more"),
        (
            ["--frozen-blocks", "1", "--frozen-views", "2", "--pseudo-label-view", "augmented"],
            "the teacher cannot see views of which only activations are kept",
        ),
        (["--joint-queries", "2000"], "--joint-queries of logistic-regression is 2000"),
        (["--base-classes", "Latin"], "--base-classes Latin needs --checkpoint"),
        (["--novel-classes", "Klingon"], "'Klingon' is no class or group here"),
        (["--methods", "lr", "lr"], "each once"),
        (["--cpus-per-worker", "0"], "--cpus-per-worker is 0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--recipe", "fast"], "--recipe fast is for photographs; omniglot has a recipe of its own"),
        (
            ["--frozen-blocks", "2", "--first-conv", "trained"],
            "--first-conv changes nothing in label-halluc, where fro",
        ),
        (["--episode-log", "s3://bucket/log"], "--episode-log is 's3:/bucket/log', a URI"),
        (["--episode-timeout", "0"], "--episode-timeout is 0.0; expected seconds above 0"),
        (["--benchmark", "omniglot-one-shot", "--episodes", "21"], "--episodes is 21 but"),
        (["--benchmark", "omniglot-one-shot", "--n-way", "5"], "--n-way 20"),
        (["--manifest", "/etc/hostname"], "cannot read the episode file"),
    ],
)
def test_a_wrong_flag_says_what_was_given_and_what_is_expected(error, tmp_path, flags, expected) -> None:
    assert expected in error("--out", str(tmp_path / "run"), *flags)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_cifar_says_what_it_expects(error, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    message = error("--benchmark", "cifar-fs", "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "run"))
    assert "holds neither Parquet files" in message


def test_zero_is_refused_and_not_taken_for_the_default(error, tmp_path) -> None:
    assert "n_shot is 0" in error("--out", str(tmp_path / "run"), "--n-shot", "0")


def test_out_is_required(error) -> None:
    assert "--out is missing" in error("--benchmark", "omniglot")


def test_a_submitted_job_refuses_outputs_that_would_be_lost(error, monkeypatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert "give an absolute path" in error("--out", "runs/a")


def test_an_unknown_flag_exits_with_code_two(error) -> None:
    assert error("--no-such-flag").startswith("error: there is no flag --no-such-flag")


def test_a_manifest_is_written_and_read_back(tmp_path, capsys) -> None:
    path = tmp_path / "episodes.parquet"
    assert evaluate("--episodes", "5", "--manifest", str(path), "--check") == 0
    assert evaluate("--episodes", "3", "--manifest", str(path), "--check") == 0
    assert evaluate("--episodes", "6", "--manifest", str(path), "--check") == 2
    assert "holds 5" in capsys.readouterr().err


def test_the_plan_says_hours_and_memory_and_runs_nothing(tmp_path, capsys) -> None:
    assert evaluate("--out", str(tmp_path / "run"), "--plan", "--steps", "50", "--support-views", "1") == 0
    printed = capsys.readouterr().out
    assert "plan: 40 episodes x 2 methods" in printed and "GB a node" in printed
    seconds = float(re.search(r"halluc: (\S+) s per", printed)[1])
    hours = float(re.search(r"time: (\S+) hours", printed)[1])
    assert seconds > 0 and 0 < hours < seconds * 40 / 3600 + 0.1
    assert not (tmp_path / "run").exists()
