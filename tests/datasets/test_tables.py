"""ImageTable: its rows depend on the pictures alone, its cache is shared and safe, its images cannot change."""

import hashlib
import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import encode, picture, write_folder, write_shard

from rayfs.datasets import image_table as tables
from rayfs.datasets.image_table import ImageTable, TableWriter, cache_folder, find_table, load_table, open_table
from rayfs.datasets.images import DECODE_RULE, key_of_pixels
from rayfs.datasets.sources import Source, open_folder, open_parquet
from rayfs.errors import InputError

CONTEXT = multiprocessing.get_context("forkserver")
"""A fork of this process would take along half of its threads' locks; torch is imported once for all of them."""
CONTEXT.set_forkserver_preload(["rayfs.datasets.image_table"])

NAMES = ["ant", "bee", "cat"]
PICTURES = [(picture(i), NAMES[i % 3]) for i in range(30)]


def load(source: Source, cache: Path, channels: int = 3, image_size: int = 20) -> ImageTable:
    return load_table(source, cache, channels=channels, image_size=image_size)


def shards_of(folder: Path, pictures: list[tuple[np.ndarray, str]], n: int, names: list[str] = NAMES) -> Source:
    paths = [
        write_shard(folder / f"{i}.parquet", [(encode(p), names.index(name)) for p, name in pictures[i::n]], names)
        for i in range(n)
    ]
    return open_parquet(paths, "label", lambda name: True)


def folder_of(root: Path, pictures: list[tuple[np.ndarray, str]], **options) -> Source:
    return open_folder(write_folder(root, [(encode(pixels, **options), name) for pixels, name in pictures]))


def shuffled(pictures: list[tuple[np.ndarray, str]], seed: int) -> list[tuple[np.ndarray, str]]:
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(pictures))
    return [pictures[i] for i in order]


# Content and order


def test_rows_are_sorted_by_class_name_and_then_by_content_key(tmp_path):
    table = load(shards_of(tmp_path, PICTURES, 1), tmp_path)
    expected = sorted(PICTURES, key=lambda pair: (pair[1], key_of_pixels(pair[0])))
    assert np.array_equal(table.images, np.stack([pixels for pixels, _ in expected]))
    assert [table.class_names[label] for label in table.labels] == [name for _, name in expected]


def test_classes_own_consecutive_rows(tmp_path):
    uneven = [(pixels, "ant" if i < 4 else "cat" if i < 5 else "bee") for i, (pixels, _) in enumerate(PICTURES)]
    table = load(shards_of(tmp_path, uneven, 2), tmp_path)
    assert table.class_names == ("ant", "bee", "cat")
    assert table.offsets.tolist() == [0, 4, 29, 30]
    assert table.class_counts().tolist() == [4, 25, 1]
    assert table.labels.tolist() == [0] * 4 + [1] * 25 + [2]
    assert len(table) == 30
    assert (table.images.dtype, table.images.shape) == (np.uint8, (30, 20, 20, 3))
    assert (table.offsets.dtype, table.labels.dtype) == (np.int64, np.int64)


def test_the_same_pictures_give_the_same_table_from_any_layout(tmp_path):
    layouts = [
        shards_of(tmp_path / "one", PICTURES, 1),
        shards_of(tmp_path / "seven", shuffled(PICTURES, 1), 7),
        shards_of(tmp_path / "renumbered", shuffled(PICTURES, 2), 2, NAMES[::-1]),
        folder_of(tmp_path / "png", shuffled(PICTURES, 3)),
        folder_of(tmp_path / "uncompressed png", PICTURES, compress_level=0),
    ]
    loaded = [load(source, tmp_path / f"cache{i}") for i, source in enumerate(layouts)]
    for table in loaded[1:]:
        assert table.fingerprint == loaded[0].fingerprint
        assert table.class_names == loaded[0].class_names
        assert np.array_equal(table.offsets, loaded[0].offsets)
        assert np.array_equal(table.images, loaded[0].images)


def test_layouts_of_the_same_pictures_share_one_table_in_the_cache(tmp_path):
    paths = {load(shards_of(tmp_path / "a", PICTURES, 1), tmp_path).path}
    paths.add(load(folder_of(tmp_path / "b", PICTURES), tmp_path).path)
    assert len(paths) == len(list((tmp_path / "tables").iterdir())) == 1


def test_a_picture_that_is_there_twice_has_two_rows(tmp_path):
    table = load(folder_of(tmp_path / "data", [*PICTURES, PICTURES[0]]), tmp_path)
    assert len(table) == 31
    assert table.class_counts().tolist() == [11, 10, 10]


def test_finish_tells_where_each_row_arrived(tmp_path):
    writer = TableWriter(tmp_path, channels=3, image_size=20)
    arrived = np.stack([pixels for pixels, _ in PICTURES])
    writer.add(arrived, [name for _, name in PICTURES], [key_of_pixels(pixels) for pixels in arrived])
    table, order = writer.finish("signature")
    assert np.array_equal(table.images, arrived[order])


def test_order_and_fingerprint_are_those_of_sorting_names_and_keys_in_python(tmp_path):
    generator = np.random.Generator(np.random.Philox(7))
    names = ["b", "ä", "a b", "a", "B", "カ", "a/c"]
    arrived = [(names[generator.integers(7)], generator.bytes(1) * 7 + generator.bytes(9)) for _ in range(400)]
    arrived += [(name, bytes(16)) for name in names] + arrived[:5]
    writer = TableWriter(tmp_path, channels=3, image_size=2)
    for start in range(0, len(arrived), 90):
        part = arrived[start : start + 90]
        pixels = np.zeros((len(part), 2, 2, 3), np.uint8)
        writer.add(pixels, [name for name, _ in part], [key for _, key in part])
    table, order = writer.finish("signature")
    assert order.tolist() == sorted(range(len(arrived)), key=arrived.__getitem__)
    naive = hashlib.blake2b(f"{DECODE_RULE}|(2, 2, 3)".encode(), digest_size=16)
    for name, key in sorted(arrived):
        naive.update(name.encode() + b"\0" + key)
    assert table.fingerprint == naive.hexdigest()
    assert table.class_names == tuple(sorted(names))
    assert table.class_counts().tolist() == [[name for name, _ in arrived].count(name) for name in sorted(names)]


def test_writer_refuses_keys_of_another_number_or_length(tmp_path):
    writer = TableWriter(tmp_path, channels=3, image_size=20)
    for keys in ([b"k" * 15], [b"k" * 16] * 2, []):
        with pytest.raises(ValueError, match="expected a class name and 16 bytes of key for each of 1 images"):
            writer.add(picture(0)[None], ["ant"], keys)
    writer.abandon()


def test_fingerprint_tells_pixels_classes_size_and_channels(tmp_path):
    def fingerprint(pictures, **options) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return load(folder_of(folder / "data", pictures), folder, **options).fingerprint

    one_pixel = [(pixels.copy(), name) for pixels, name in PICTURES]
    one_pixel[7][0][3, 5, 1] ^= 1
    moved = [*PICTURES[:-1], (PICTURES[-1][0], "ant")]
    renamed = [(pixels, name.replace("bee", "bees")) for pixels, name in PICTURES]
    fingerprints = {
        fingerprint(PICTURES),
        fingerprint(PICTURES, image_size=16),
        fingerprint(PICTURES, channels=1),
        fingerprint(PICTURES[:-1]),
        fingerprint(one_pixel),
        fingerprint(moved),
        fingerprint(renamed),
    }
    assert len(fingerprints) == 7
    assert all(len(value) == 32 for value in fingerprints)


# Reading


def test_take_copies_the_asked_rows(tmp_path):
    table = load(folder_of(tmp_path / "data", PICTURES), tmp_path)
    rows = np.array([3, 29, 3, 0])
    taken = table.take(rows)
    assert (taken.dtype, tuple(taken.shape)) == (torch.uint8, (4, 20, 20, 3))
    assert np.array_equal(taken.numpy(), table.images[rows])
    assert tuple(table.take(rows.reshape(2, 2)).shape) == (2, 2, 20, 20, 3)


def test_changing_what_take_returned_leaves_the_table_as_it_is(tmp_path):
    table = load(folder_of(tmp_path / "data", PICTURES), tmp_path)
    before = np.array(table.images)
    table.take(np.arange(30)).zero_()
    assert np.array_equal(table.images, before)
    assert np.array_equal(open_table(tmp_path, table.fingerprint).images, before)


def test_the_map_is_read_only(tmp_path):
    table = load(folder_of(tmp_path / "data", PICTURES), tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        table.images[0, 0, 0, 0] = 1
    assert isinstance(table.images, np.memmap)


# Cache


def test_a_table_in_the_cache_is_not_decoded_again(tmp_path, monkeypatch):
    source = folder_of(tmp_path / "data", PICTURES)
    first = load(source, tmp_path)
    monkeypatch.setattr(tables, "decode", lambda *_, **__: pytest.fail("decoded again"))
    second = load(source, tmp_path)
    assert (second.fingerprint, second.path) == (first.fingerprint, first.path)
    assert np.array_equal(second.images, first.images)


def test_a_changed_file_is_noticed(tmp_path):
    source = folder_of(tmp_path / "data", PICTURES)
    before = load(source, tmp_path)
    path = tmp_path / "data" / source.files[0][0]
    path.write_bytes(encode(picture(99)))
    after = load(open_folder(tmp_path / "data"), tmp_path)
    assert after.fingerprint != before.fingerprint
    assert any(np.array_equal(image, picture(99)) for image in after.images)


def test_a_file_that_was_only_touched_leads_to_the_same_table(tmp_path):
    source = folder_of(tmp_path / "data", PICTURES)
    before = load(source, tmp_path)
    os.utime(tmp_path / "data" / source.files[0][0], (1, 1))
    assert load(source, tmp_path).fingerprint == before.fingerprint


def test_other_size_or_channels_are_not_taken_from_the_cache(tmp_path):
    source = folder_of(tmp_path / "data", PICTURES)
    shapes = [load(source, tmp_path, channels, size).images.shape for channels, size in ((3, 20), (1, 20), (3, 16))]
    assert shapes == [(30, 20, 20, 3), (30, 20, 20, 1), (30, 16, 16, 3)]


def test_a_table_deleted_from_the_cache_is_decoded_again(tmp_path):
    source = folder_of(tmp_path / "data", PICTURES)
    table = load(source, tmp_path)
    (table.path / "images.npy").unlink()
    (table.path / "offsets.npy").unlink()
    (table.path / "classes.json").unlink()
    table.path.rmdir()
    assert load(source, tmp_path).fingerprint == table.fingerprint


def test_an_empty_link_left_by_a_crash_is_decoded_again(tmp_path):
    source = folder_of(tmp_path / "data", PICTURES)
    table = load(source, tmp_path)
    for link in (tmp_path / "sources").iterdir():
        link.write_text("")
    assert load(source, tmp_path).fingerprint == table.fingerprint


def test_nothing_but_the_table_is_left_in_the_cache(tmp_path):
    table = load(folder_of(tmp_path / "data", PICTURES), tmp_path / "cache")
    left = sorted(
        str(path.relative_to(tmp_path / "cache")) for path in (tmp_path / "cache").rglob("*") if path.is_file()
    )
    folder = f"tables/{table.fingerprint}"
    assert left[1:] == [f"{folder}/classes.json", f"{folder}/images.npy", f"{folder}/offsets.npy"]
    assert left[0].startswith("sources/")


def test_tables_can_be_read_by_whoever_may_read_the_cache(tmp_path):
    """Temporary folders of the standard library are private to their owner, tables must not be."""
    table = load(folder_of(tmp_path / "data", PICTURES), tmp_path)
    (tmp_path / "made").mkdir()
    assert stat.S_IMODE(table.path.stat().st_mode) == stat.S_IMODE((tmp_path / "made").stat().st_mode)


def test_a_table_the_cache_does_not_have_is_an_error_that_names_the_cache(tmp_path):
    with pytest.raises(
        InputError, match=rf"^image table abc is not in {tmp_path}; on a cluster, RAYFS_CACHE must name"
    ):
        open_table(tmp_path, "abc")
    assert find_table(tmp_path, "unknown signature") is None


def test_an_undecodable_image_is_an_error_with_its_place_and_leaves_nothing(tmp_path):
    source = folder_of(tmp_path / "data", PICTURES)
    path = tmp_path / "data" / source.files[17][0]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=f"^{path}: cannot decode the image"):
        load(source, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_source_without_images_is_refused(tmp_path):
    source = open_parquet(
        [write_shard(tmp_path / "a.parquet", [(encode(picture(0)), 0)], NAMES)], "label", {"bee"}.__contains__
    )
    with pytest.raises(InputError, match="the source holds 0 images of the wanted classes"):
        load(source, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_class_names_in_any_script_are_kept(tmp_path):
    names = ["Ångström", "カタカナ", "a b/c"]
    shard = write_shard(tmp_path / "a.parquet", [(encode(picture(i)), i) for i in range(3)], names)
    table = load(open_parquet([shard], "label", lambda name: True), tmp_path)
    assert table.class_names == tuple(sorted(names))
    assert open_table(tmp_path, table.fingerprint).class_names == table.class_names


def test_writer_refuses_images_of_another_shape_or_type(tmp_path):
    writer = TableWriter(tmp_path, channels=3, image_size=20)
    for pixels in (picture(0, 20, 21)[None], picture(0)[None].astype(np.int32)):
        with pytest.raises(ValueError, match=r"expected \(n, \(20, 20, 3\)\) uint8, got"):
            writer.add(pixels, ["ant"], [b"k" * 16])
    writer.abandon()


# Processes


def _load_in_process(root: str, cache: str, barrier, results) -> None:
    source = open_folder(Path(root))
    barrier.wait()
    results.put(load(source, Path(cache)).fingerprint)


def _write_and_hang(cache: str, started) -> None:
    writer = TableWriter(Path(cache), channels=3, image_size=20)
    writer.add(picture(0)[None], ["ant"], [b"k" * 16])
    started.set()
    time.sleep(60)


def test_processes_that_write_the_same_table_at_once_all_get_it(tmp_path):
    folder_of(tmp_path / "data", PICTURES)
    barrier, results = CONTEXT.Barrier(3), CONTEXT.Queue()
    arguments = (str(tmp_path / "data"), str(tmp_path / "cache"), barrier, results)
    processes = [CONTEXT.Process(target=_load_in_process, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    fingerprints = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    assert set(fingerprints) == {load(open_folder(tmp_path / "data"), tmp_path / "alone").fingerprint}
    assert [path.name for path in (tmp_path / "cache" / "tables").iterdir()] == fingerprints[:1]


def test_what_a_killed_writer_left_does_not_disturb_the_next(tmp_path):
    started = CONTEXT.Event()
    process = CONTEXT.Process(target=_write_and_hang, args=(str(tmp_path), started))
    process.start()
    assert started.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list((tmp_path / "tables").glob(".writing-*"))
    table = load(folder_of(tmp_path / "data", PICTURES), tmp_path)
    assert np.array_equal(table.images[0], sorted(PICTURES[::3], key=lambda pair: key_of_pixels(pair[0]))[0][0])


def test_a_writer_that_was_overtaken_leaves_the_table_of_the_faster_one(tmp_path):
    keys = [key_of_pixels(pixels) for pixels, _ in PICTURES]
    writers = [TableWriter(tmp_path, channels=3, image_size=20) for _ in range(2)]
    for writer in writers:
        writer.add(np.stack([pixels for pixels, _ in PICTURES]), [name for _, name in PICTURES], keys)
    first, second = (writer.finish("signature")[0] for writer in writers)
    assert first.path == second.path
    assert np.array_equal(first.images, second.images)
    assert not list((tmp_path / "tables").glob(".writing-*"))


# The cache folder


def test_cache_folder_is_the_given_one_then_the_environments(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYFS_CACHE", str(tmp_path / "environment"))
    assert cache_folder(str(tmp_path / "given" / "deep")) == tmp_path / "given" / "deep"
    assert cache_folder() == tmp_path / "environment"
    assert (tmp_path / "given" / "deep").is_dir()
    monkeypatch.delenv("RAYFS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "rayfs"


def test_a_cache_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match=r"^cannot create the cache folder .*file/cache \(Not a directory\); set RAYFS"
    ):
        cache_folder(str(tmp_path / "file" / "cache"))
