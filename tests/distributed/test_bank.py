"""The base bank that Ray Data builds is the one a single process builds."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rayfs.datasets.augmentation import normalize, plain_view
from rayfs.datasets.image_table import load_table
from rayfs.datasets.sources import open_folder
from rayfs.distributed import base_bank as bank_module
from rayfs.distributed.base_bank import ensure_bank
from rayfs.distributed.data_task import run_data_task
from rayfs.distributed.session import Resources
from rayfs.engine.bank import embed_table
from rayfs.engine.progress import WorkProgress
from rayfs.errors import InputError
from rayfs.experiments.episodes.experiment import Experiment

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of real Omniglot drawings as PNG and JPEG files of several sizes."""
    from rayfs.datasets.registry import open_benchmark

    root = tmp_path_factory.mktemp("folder")
    source = open_benchmark("omniglot").source("validation", root)
    for number, image in enumerate(source.read()):
        if number % 20 >= 3 * 2 or number >= 60:
            continue
        folder = root / "images" / image.class_name.replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.open(io.BytesIO(image.encoded)).convert("L").resize((40 + number, 50))
        picture.save(folder / f"{number}.{'jpg' if number % 2 else 'png'}")
    return root / "images"


def test_ray_data_gives_the_table_and_features_of_a_single_process(
    experiment: Experiment, cache_dir: Path, resources: Resources, tmp_path: Path
) -> None:
    spec = experiment.backbone
    bank = ensure_bank(experiment.base, spec, cache_dir, resources, gpu=False)
    alone = load_table(experiment.base, tmp_path, channels=spec.channels, image_size=spec.image_size)
    assert bank.table.fingerprint == alone.fingerprint
    assert np.array_equal(bank.table.images, alone.images)
    assert np.array_equal(bank.table.offsets, alone.offsets)
    device = torch.device("cpu")
    reference = embed_table(
        alone, spec.load(device), lambda images: normalize(plain_view(images), spec.mean, spec.std), device
    )
    assert bank.features.shape == (2720, 64)
    np.testing.assert_allclose(bank.features, reference, rtol=1e-4, atol=1e-5)


def test_a_folder_gives_the_bank_of_a_single_process(
    class_folders: Path, experiment: Experiment, cache_dir: Path, resources: Resources, tmp_path: Path
) -> None:
    spec, source = experiment.backbone, open_folder(class_folders)
    bank = ensure_bank(source, spec, cache_dir, resources, gpu=False)
    alone = load_table(source, tmp_path, channels=spec.channels, image_size=spec.image_size)
    assert len(alone) == 18
    assert bank.table.fingerprint == alone.fingerprint
    assert np.array_equal(bank.table.images, alone.images)


def test_a_finished_bank_is_mapped_and_not_built_again(
    experiment: Experiment, cache_dir: Path, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ensure_bank(experiment.base, experiment.backbone, cache_dir, resources, gpu=False)
    monkeypatch.setattr(bank_module, "_run_build", lambda *_: pytest.fail("built again"))
    second = ensure_bank(experiment.base, experiment.backbone, cache_dir, resources, gpu=False)
    assert second.path == first.path
    assert isinstance(second.features, np.memmap) and not second.features.flags.writeable


def test_a_corrupt_base_image_is_one_error_that_names_it(
    class_folders: Path, experiment: Experiment, cache_dir: Path, resources: Resources, tmp_path: Path
) -> None:
    root = tmp_path / "images"
    for path in sorted(class_folders.rglob("*.*")):
        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
        (root / path.parent.name / path.name).write_bytes(path.read_bytes())
    broken = sorted(root.rglob("*.png"))[4]
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(InputError, match=f"^{re.escape(str(broken))}: cannot decode the image .60 bytes"):
        ensure_bank(open_folder(root), experiment.backbone, cache_dir, resources, gpu=False)
    assert not list((cache_dir / "tables").glob(".writing-*"))


def test_a_pipeline_that_waits_for_ever_is_one_error(resources: Resources) -> None:
    def build() -> Iterator[int]:
        from ray.data.exceptions import ExecutionTimeoutError

        yield 3
        raise ExecutionTimeoutError("Dataset execution made no progress")

    with pytest.raises(InputError, match=r"^features: 3/9 images .*: nothing came for 300 s; the machine is too busy"):
        run_data_task(build, (), WorkProgress("features", "images", 9))
