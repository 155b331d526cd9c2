"""What the cache holds is told, and removed only while nobody uses it."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from rayfs import cache as cache_module
from rayfs.cache import cache_entries
from rayfs.datasets.image_table import cache_folder
from rayfs.engine.bank import open_bank
from rayfs.errors import InputError
from rayfs.experiments.cache.job import CacheConfig, run_cache
from rayfs.flags.command_line import run_job

DAY_S = 86400


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A table of 30 images, its features (8 days old) and two views' activations, a backbone, what a crash left."""
    table = tmp_path / "tables" / "abc"
    for folder in (table, tmp_path / "features", tmp_path / "backbones", tmp_path / "sources"):
        folder.mkdir(parents=True)
    np.save(table / "images.npy", np.zeros((30, 4, 4, 3), np.uint8))
    np.save(table / "offsets.npy", np.array([0, 10, 30]))
    (table / "classes.json").write_text('["a", "b"]')
    np.save(tmp_path / "features" / "f.npy", np.zeros((30, 5), np.float32))
    np.save(tmp_path / "features" / "v.npy", np.zeros((30, 3, 5), np.float32))
    np.save(tmp_path / "features" / "a.npy", np.zeros((30, 2, 64, 8, 8), np.float16))
    (tmp_path / "features" / "broken.npy").write_bytes(b"x")
    (tmp_path / "features" / ".b.npy.tmp").write_bytes(b"x" * 9000)
    (tmp_path / "backbones" / "conv4-1.safetensors").write_bytes(b"x")
    (tmp_path / "sources" / "s").write_text("abc")
    os.utime(tmp_path / "features" / "f.npy", (0, time.time() - 8 * DAY_S))
    return tmp_path


def kinds(cache: Path) -> list[str]:
    return sorted(entry.kind for entry in cache_entries(cache))


def test_the_table_says_what_of_what_and_how_much(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cache(CacheConfig(), cache) == 0
    printed = capsys.readouterr().out
    first, *_ = [line.split() for line in printed.splitlines() if "activations" in line]
    assert first[2:] == ["activations", "2", "views", "of", "30", "images,", "64x8x8", "features/a.npy"]
    assert float(first[0]) == pytest.approx(30 * 2 * 64 * 8 * 8 * 2 / 1e9, abs=0.001)
    for text in (
        "30 images, 4x4x3", "30 images, 5 features", "3 views of 30 images, 5 features", "damaged", "unfinished",
        "backbones 0.00 GB in 1, features 0.00 GB in 3, tables 0.00 GB in 1, unfinished",
    ):  # fmt: skip
        assert text in printed
    assert " 8.0  features     30 images, 5 features" in printed


def test_only_what_is_named_and_was_not_used_goes(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_cache(CacheConfig(remove=("features",), unused_days=7), cache)
    assert not (cache / "features" / "f.npy").exists() and (cache / "features" / "v.npy").exists()
    assert "removed 1 of 7: 0.00 GB of 0.00 GB" in capsys.readouterr().out
    run_cache(CacheConfig(remove=("activations", "unfinished")), cache)
    assert kinds(cache) == ["backbones", "features", "features", "tables"]
    run_cache(CacheConfig(remove=("all",)), cache)
    assert kinds(cache) == []


def test_what_a_job_opens_counts_as_used(cache: Path) -> None:
    bank = open_bank(cache, "abc", cache / "features" / "f.npy")
    assert len(bank.features) == 30
    run_cache(CacheConfig(remove=("features",), unused_days=7), cache)
    assert bank.path.exists()


def test_nothing_goes_while_a_job_uses_the_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared: dict[Path, int] = {}
    monkeypatch.setattr(cache_module, "_shared", shared)
    assert cache_folder(str(cache)) == cache_folder(str(cache)) == cache
    assert list(shared) == [cache], "once is enough"
    arguments = (lambda config: run_cache(config, cache), CacheConfig, None, ["--remove", "all"])
    assert run_job(*arguments) == 2
    refused = f"error: a job uses the cache {cache}; nothing was removed: wait for its end, or stop it\n"
    assert capsys.readouterr().err == refused
    assert len(kinds(cache)) == 7
    os.close(shared.pop(cache))  # as the end of a process does, whatever ends it
    assert run_job(*arguments) == 0
    assert kinds(cache) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"unused_days": -1.0, "remove": ("all",)}, "--unused-days is -1.0; expected days, 0 or more"),
        ({"unused_days": float("nan"), "remove": ("all",)}, "--unused-days is nan; expected days, 0 or more"),
        ({"unused_days": 3.0}, "--unused-days 3 without --remove; add --remove all, or a kind"),
        ({"remove": ("models",)}, "--remove models: the cache {} holds activations, backbones, features, tables, unf"),
    ],
)
def test_wrong_flags_are_refused_and_nothing_goes(cache: Path, flags: dict, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        run_cache(CacheConfig(**flags), cache)
    assert str(refusal.value).startswith(message.format(cache))
    assert len(kinds(cache)) == 7


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the cache .*absent does not exist; name it by --cache or RAYFS_CACHE"):
        run_cache(CacheConfig(), tmp_path / "absent")
