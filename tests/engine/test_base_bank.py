"""The base bank: written whole, mapped read-only, refused where it does not fit."""

import numpy as np
import pytest
import torch

from rayfs.backbones.conv4 import Conv4
from rayfs.datasets.augmentation import plain_view
from rayfs.engine.bank import bank_path, embed_table, open_bank, save_features
from rayfs.engine.features import embed
from rayfs.errors import InputError
from rayfs.randomness import torch_generator


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(10, 3))


def test_bank_gives_back_what_was_saved(tmp_path, table, features):
    path = tmp_path / "features" / "a.npy"
    save_features(path, features)
    bank = open_bank(tmp_path, table.fingerprint, path)
    assert bank.path == path and bank.features.dtype == np.float32
    np.testing.assert_array_equal(bank.features, features.astype(np.float32))
    np.testing.assert_array_equal(bank.table.images, table.images)
    rows = np.array([7, 0, 7])
    taken = bank.take_features(rows)
    assert torch.equal(taken, torch.from_numpy(features[rows].astype(np.float32)))


def test_taking_features_copies_and_the_map_is_read_only(tmp_path, table, features):
    save_features(tmp_path / "a.npy", features)
    bank = open_bank(tmp_path, table.fingerprint, tmp_path / "a.npy")
    bank.take_features(np.arange(10)).zero_()
    np.testing.assert_array_equal(bank.features, features.astype(np.float32))
    with pytest.raises(ValueError, match="read-only"):
        bank.features[0] = 0


def test_features_missing_on_this_machine_are_explained(tmp_path, table):
    with pytest.raises(InputError, match=r"absent\.npy are not on this machine; .*RAYFS_CACHE must name a folder"):
        open_bank(tmp_path, table.fingerprint, tmp_path / "absent.npy")


def test_table_missing_on_this_machine_is_explained(tmp_path, features):
    save_features(tmp_path / "a.npy", features)
    with pytest.raises(InputError, match="RAYFS_CACHE must name a folder"):
        open_bank(tmp_path, "0123456789abcdef", tmp_path / "a.npy")


def test_features_of_another_length_are_refused(tmp_path, table, features):
    save_features(tmp_path / "a.npy", features[:9])
    with pytest.raises(InputError, match=r"a\.npy has 9 rows but its table 10; remove the file"):
        open_bank(tmp_path, table.fingerprint, tmp_path / "a.npy")


@pytest.mark.parametrize("n_bytes", [0, 5, 130])
def test_damaged_features_are_refused(tmp_path, table, features, n_bytes):
    path = tmp_path / "a.npy"
    save_features(path, features)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(InputError, match=r"a\.npy cannot be read .*; remove the file"):
        open_bank(tmp_path, table.fingerprint, path)


def test_interrupted_save_leaves_the_earlier_file_and_nothing_else(tmp_path, features, monkeypatch):
    path = tmp_path / "features" / "a.npy"
    save_features(path, features)

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        save_features(path, features + 1)
    assert list(path.parent.iterdir()) == [path]
    np.testing.assert_array_equal(np.load(path), features.astype(np.float32))


def test_path_names_everything_the_features_depend_on(tmp_path):
    given = ("table", "conv4", "weights", (0.5,), (0.2,), "cpu")
    changes = ("t", "conv4-flat", "w", (0.4,), (0.3,), "cuda")
    others = [(*given[:i], change, *given[i + 1 :]) for i, change in enumerate(changes)]
    paths = {bank_path(tmp_path, *arguments) for arguments in (given, given, *others)}
    assert len(paths) == 7
    assert all(path.parent == tmp_path / "features" and path.suffix == ".npy" for path in paths)


def test_features_of_a_table_are_those_of_its_images(table):
    backbone = Conv4(1, width=4, generator=torch_generator(0, "weights")).eval()
    everything = table.take(np.arange(10))
    expected = embed(backbone, everything, plain_view, torch.device("cpu"))
    found = embed_table(table, backbone, plain_view, torch.device("cpu"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.numpy())
