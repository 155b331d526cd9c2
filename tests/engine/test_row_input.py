"""Rows that a step reads: the same from the host's map and from a copy on the device."""

import numpy as np
import pytest
import torch

from rayfs.datasets.row_files import gather
from rayfs.engine.bank import open_bank, save_features
from rayfs.engine.row_input import IndexInput, RowInput, resident, resident_bytes
from rayfs.errors import InputError

CPU = torch.device("cpu")
ARRAY = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)
ROWS = [np.array([7, 0, 7]), np.array([1, 2, 9])]


@pytest.mark.parametrize("on_device", [None, torch.from_numpy(ARRAY)], ids=["mapped", "resident"])
def test_every_read_gives_the_rows_loaded_last(on_device):
    source = RowInput(ARRAY, on_device, CPU, 3)
    for rows in ROWS:
        source.load(rows)
        for _ in range(2):
            assert torch.equal(source.read(torch.from_numpy(rows)), torch.from_numpy(ARRAY[rows]))


def test_what_was_read_before_stays_as_it_was():
    source, places = RowInput(ARRAY, None, CPU, 3), IndexInput(3, CPU)
    source.load(ROWS[0])
    places.load(torch.from_numpy(ROWS[0]))
    before = source.read(places.read()), places.read()
    source.load(ROWS[1])
    places.load(torch.from_numpy(ROWS[1]))
    assert torch.equal(before[0], torch.from_numpy(ARRAY[ROWS[0]])) and before[1].tolist() == ROWS[0].tolist()
    assert places.read().tolist() == ROWS[1].tolist()


def test_array_stays_resident_where_it_takes_what_it_may():
    assert resident_bytes(CPU) == 0 and resident(ARRAY, CPU, ARRAY.nbytes - 1) is None
    copy = resident(ARRAY, CPU, ARRAY.nbytes)
    assert copy is not None and torch.equal(copy, torch.from_numpy(ARRAY))


def test_rows_in_a_buffer_are_those_of_the_array_and_no_others():
    out = np.empty((3, *ARRAY.shape[1:]), dtype=np.uint8)
    assert np.array_equal(gather(ARRAY, ROWS[0], out=out), ARRAY[ROWS[0]])
    with pytest.raises(IndexError, match="rows 0 to 10 of an array of 10"):
        gather(ARRAY, np.array([0, 10, 1]), out=out)


def test_bank_on_the_cpu_reads_features_from_its_map(tmp_path, table):
    features = np.random.default_rng(1).normal(size=(10, 3)).astype(np.float32)
    save_features(tmp_path / "a.npy", features)
    bank = open_bank(tmp_path, table.fingerprint, tmp_path / "a.npy").on(CPU)
    assert bank.device_images is None and bank.device_features is None
    rows = torch.tensor([3, 3, 9])
    assert torch.equal(bank.features_on(CPU, rows), torch.from_numpy(features[rows.numpy()]))


@pytest.mark.parametrize("share", [0.25, 0.0], ids=["resident", "streamed"])
def test_gpu_reads_the_same_rows_at_one_place(share, gpu, monkeypatch):
    monkeypatch.setattr("rayfs.engine.row_input.RESIDENT_SHARE", share)
    on_device = resident(ARRAY, gpu, resident_bytes(gpu))
    assert (on_device is None) == (share == 0.0)
    source, places = RowInput(ARRAY, on_device, gpu, 3), IndexInput(3, gpu)
    place, found, rows = places.read().data_ptr(), [], [np.array([i % 10, 3 * i % 10, 9 - i % 10]) for i in range(50)]
    for chosen in rows:
        source.load(chosen)
        places.load(torch.from_numpy(chosen))
        torch.cuda._sleep(2_000_000)  # the host runs ahead of the GPU: nothing here waits
        found.append((source.read(places.read()).clone(), places.read().clone()))
    assert places.read().data_ptr() == place
    for chosen, (images, indices) in zip(rows, found, strict=True):
        assert torch.equal(images.cpu(), torch.from_numpy(ARRAY[chosen])) and indices.tolist() == chosen.tolist()


def test_captured_step_is_refused_features_that_stay_on_the_host(tmp_path, table, gpu, monkeypatch):
    monkeypatch.setattr("rayfs.engine.row_input.RESIDENT_SHARE", 0.0)
    save_features(tmp_path / "a.npy", np.zeros((10, 3)))
    bank = open_bank(tmp_path, table.fingerprint, tmp_path / "a.npy").on(gpu)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(InputError, match="do not fit the GPU"):
        bank.features_on(gpu, torch.tensor([1], device=gpu))
