"""The benchmark of memory, on few synthetic images: real bank, real workers, each phase looked at."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayfs.distributed.session import Resources
from rayfs.engine.host_memory import Held
from rayfs.flags.parsing import configured
from rayfs.performance import memory as benchmark_memory
from rayfs.performance.benchmark_flags import BenchmarkConfig
from rayfs.performance.memory import by_name, measure_memory, synthetic_source


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads /proc")
def test_every_phase_is_looked_at(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAYFS_CACHE", str(tmp_path / "cache"))
    config = configured(
        BenchmarkConfig,
        measure=("memory",), backbone="conv4-32", images=300, image_size=28, rounds=2, measured_steps=1, workers=2,
        out=tmp_path,
    )  # fmt: skip
    measure_memory(config)
    assert "images and features are files of 0.00 GB, which 2 workers map" in capsys.readouterr().out
    rows = pq.read_table(tmp_path / "memory.parquet").to_pylist()
    assert [(row["phase"], row["n_images"]) for row in rows] == [
        ("bank", 300), ("features of conv4-32", 300), ("gathering, 1 of 2 workers", 300),
        ("gathering, 2 of 2 workers", 600), ("2 episodes, 2 workers", 250),
    ]  # fmt: skip
    for row in rows:
        assert row["limit_bytes"] > row["own_bytes"] > 200e6 and row["shm_bytes"] > 0 and row["seconds"] > 0
        assert row["mapped_bytes"] > row["worker_mapped_bytes"] / 2
    assert [row["worker_own_bytes"] > 0 for row in rows] == [False, False, True, True, True]
    assert (
        rows[-1]["own_bytes"] > rows[-1]["worker_own_bytes"] > 100e6 and "2 ray::SamplingWorker" in rows[-1]["largest"]
    )
    assert len(list((tmp_path / "cache" / "features").glob("*.npy"))) == 1, "the second backbone is the first"


def test_synthetic_images_are_the_same_again_and_all_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_memory, "SHARD_IMAGES", 20)
    first, again = (synthetic_source(tmp_path / name, "base", 50, 4, 16) for name in ("a", "b"))
    assert first.class_counts() == {"class 000": 13, "class 001": 13, "class 002": 12, "class 003": 12}
    images = [(image.class_name, image.encoded) for image in first.read()]
    assert images == [(image.class_name, image.encoded) for image in again.read()]
    assert len({encoded for _, encoded in images}) == 50
    assert np.asarray(Image.open(io.BytesIO(images[0][1]))).shape == (16, 16, 3)


def test_processes_are_summed_by_name() -> None:
    held = [
        Held(pid=i, name=name, own_bytes=n * 10**6, shm_bytes=0, file_bytes=0, mapped_bytes=0)
        for i, (name, n) in enumerate(
            [
                ("raylet", 49),
                ("ray::W.run(x)", 200),
                ("ray::W.run(y)", 300),
                ("python", 700),
                ("agent", 30),
                ("agent", 20),
            ]
        )
    ]
    assert by_name(held) == "1 python 0.70, 2 ray::W.run 0.50, 2 agent 0.05"
