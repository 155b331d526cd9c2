"""What the disk cannot hold is refused before it is made, with the numbers and the ways out."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rayfs.distributed import activations, table_features
from rayfs.distributed import base_bank as bank
from rayfs.distributed.activations import ensure_activations, kept_bytes
from rayfs.distributed.base_bank import build_bytes, ensure_bank
from rayfs.distributed.session import Resources
from rayfs.distributed.table_features import ensure_table_features
from rayfs.engine import disk
from rayfs.errors import InputError
from rayfs.experiments.episodes.experiment import Experiment
from rayfs.methods.variants import method_settings

NONE = Resources(nodes=())


@pytest.fixture(params=[0, -1], ids=["just enough", "a byte short"])
def short(request: pytest.FixtureRequest) -> int:
    return request.param


def leave(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))


def made(*arguments: object) -> None:
    raise RuntimeError("made")


def test_activations(experiment: Experiment, cache_dir: Path, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = method_settings(("label-halluc:frozen-blocks=2,frozen-views=3",), "omniglot", 5, 1, {})
    table, spec = experiment.novel, experiment.backbone
    n_bytes = 340 * 3 * 64 * 7 * 7 * 2
    assert kept_bytes(spec, (2, 3)) * len(table) == n_bytes
    leave(n_bytes + short, monkeypatch)
    monkeypatch.setattr(activations, "ensure_table_features", made)
    message = (
        "^3 views behind 2 frozen blocks take 0.0 GB but .* lower --frozen-views, freeze more" if short else "made"
    )
    with pytest.raises(InputError if short else RuntimeError, match=message):
        ensure_activations(table, spec, methods, experiment.benchmark.augmentation, 0, cache_dir, NONE, False)


def test_base_bank(experiment: Experiment, tmp_path: Path, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    n_bytes = 2720 * (28 * 28 + 4 * 64)
    assert build_bytes(2720, experiment.backbone) == n_bytes
    leave(n_bytes + short, monkeypatch)
    monkeypatch.setattr(bank, "run_data_task", made)
    message = "^the 2,720 base images, decoded, take 0.0 GB .* remove what is not needed" if short else "made"
    with pytest.raises(InputError if short else RuntimeError, match=message):
        ensure_bank(experiment.base, experiment.backbone, tmp_path, NONE, False)


def test_features(experiment: Experiment, cache_dir: Path, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(340 * 64 * 4 + short, monkeypatch)
    monkeypatch.setattr(table_features, "run_data_task", made)
    other = replace(experiment.backbone, state_hash="0")
    message = "^the features of 340 images take 0.0 GB .* remove what is not needed" if short else "made"
    with pytest.raises(InputError if short else RuntimeError, match=message):
        ensure_table_features(experiment.novel, other, cache_dir, NONE, False)


def test_a_disk_that_becomes_full_while_a_bank_is_made_is_one_error(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's device whose every write fails as on a full disk stands for the file of the images."""
    batch = {
        "image": np.zeros((256, 28, 28, 1), np.uint8), "class_name": np.array(["a"] * 256, dtype=object),
        "key": np.array([f"{i:032x}" for i in range(256)], dtype=object), "feature": np.zeros((256, 64), np.float32),
        "error": np.array([""] * 256, dtype=object),
    }  # fmt: skip
    monkeypatch.setattr(bank, "_pipeline", lambda *_: iter([batch] * 3))
    real, full = Path.open, Path("/dev/full")
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", **rest: real(full if path.name == "images.npy" else path, mode, **rest)
    )
    arguments = (experiment.base, "signature", experiment.backbone, tmp_path, 1, False)
    with pytest.raises(InputError, match=r"^the disk of the cache .* became full \(No space left on device"):
        list(bank._build(*arguments))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_disk_of_this_machine_holds_no_exabyte(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"they take 1000000000.0 GB but the disk of the cache .* has \d+.\d GB left"):
        disk.refuse_full_disk(tmp_path, 10**18, "they")
    disk.refuse_full_disk(tmp_path, 1, "they")
