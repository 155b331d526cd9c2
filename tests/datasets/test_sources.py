"""Sources: what is read from Parquet shards and class folders, and the message of everything that can be wrong."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import encode, picture, write_folder, write_shard

from rayfs.datasets.sources import open_folder, open_parquet
from rayfs.errors import InputError

NAMES = ["ant", "bee", "cat"]


def png(seed: int) -> bytes:
    return encode(picture(seed, 4, 4))


def everything(name: str) -> bool:
    return True


def contents(source) -> list[tuple[str, bytes]]:
    return [(image.class_name, image.encoded) for image in source.read()]


# Parquet


def test_shards_yield_class_name_bytes_and_place_of_every_image(tmp_path):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), 2), (png(1), 0), (png(2), 2)], NAMES)
    source = open_parquet([shard], "label", everything)
    assert contents(source) == [("cat", png(0)), ("ant", png(1)), ("cat", png(2))]
    assert [image.where for image in source.read()] == [f"{shard}, row {i}" for i in range(3)]
    assert source.class_names == ("ant", "bee", "cat")
    assert (source.count(), source.class_counts()) == (3, {"ant": 1, "bee": 0, "cat": 2})


def test_only_kept_classes_are_counted_and_read(tmp_path):
    shards = [write_shard(tmp_path / f"{i}.parquet", [(png(i), i), (png(9), 1)], NAMES) for i in range(3)]
    source = open_parquet(shards, "label", {"ant", "cat"}.__contains__)
    assert source.class_names == ("ant", "cat")
    assert contents(source) == [("ant", png(0)), ("cat", png(2))]
    assert source.count() == 2


def test_places_count_rows_over_batches_and_row_groups(tmp_path):
    shard = write_shard(tmp_path / "a.parquet", [(png(i % 7), i % 3) for i in range(2_500)], NAMES)
    pq.write_table(pq.read_table(shard), shard, row_group_size=700)
    source = open_parquet([shard], "label", {"bee"}.__contains__)
    assert [image.where for image in source.read()] == [f"{shard}, row {i}" for i in range(1, 2_500, 3)]
    assert contents(source) == [("bee", png(i % 7)) for i in range(1, 2_500, 3)]


@pytest.mark.parametrize("label_type", [pa.int8(), pa.uint8(), pa.int32(), pa.int64()], ids=str)
def test_labels_may_be_any_integers(tmp_path, label_type):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), 2), (png(1), 0)], NAMES, label_type=label_type)
    source = open_parquet([shard], "label", everything)
    assert contents(source) == [("cat", png(0)), ("ant", png(1))]
    assert source.count() == 2


def test_unlabelled_rows_are_left_out(tmp_path):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), None), (png(1), -1), (png(2), 1)], NAMES)
    source = open_parquet([shard], "label", everything)
    assert contents(source) == [("bee", png(2))]
    assert source.count() == 1


def test_no_class_kept_gives_no_image(tmp_path):
    source = open_parquet([write_shard(tmp_path / "a.parquet", [(png(0), 0)], NAMES)], "label", lambda name: False)
    assert (source.count(), contents(source), source.class_names) == (0, [], ())


def test_columns_beside_image_and_label_do_not_matter(tmp_path):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), 1)], NAMES)
    table = pq.read_table(shard)
    pq.write_table(table.append_column("more", pa.array([{"x": 1}])).append_column("n", pa.array([7])), shard)
    assert contents(open_parquet([shard], "label", everything)) == [("bee", png(0))]


def test_order_of_the_given_paths_does_not_matter(tmp_path):
    shards = [write_shard(tmp_path / f"{i}.parquet", [(png(i), i)], NAMES) for i in range(3)]
    first, second = open_parquet(shards, "label", everything), open_parquet(shards[::-1], "label", everything)
    assert first == second
    assert first.signature() == second.signature()


def test_signature_tells_which_classes_are_kept_and_whether_a_file_changed(tmp_path):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), 0), (png(1), 1)], NAMES)
    signatures = {open_parquet([shard], "label", everything).signature()}
    signatures.add(open_parquet([shard], "label", {"ant"}.__contains__).signature())
    write_shard(shard, [(png(0), 0), (png(1), 1), (png(2), 1)], NAMES)
    signatures.add(open_parquet([shard], "label", everything).signature())
    assert len(signatures) == 3


def test_a_missing_label_column_is_named_with_the_columns_there_are(tmp_path):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), 0)], NAMES, label="fine_label")
    expected = rf"^{shard}: expected an image column .* and a column 'label', got columns image, fine_label$"
    with pytest.raises(InputError, match=expected):
        open_parquet([shard], "label", everything)


def test_a_missing_image_column_is_refused(tmp_path):
    pq.write_table(pa.table({"image": [b"png"], "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"expected an image column \(struct with 'bytes'\).*got columns image, label"):
        open_parquet([tmp_path / "a.parquet"], "label", everything)


def test_missing_class_names_are_refused(tmp_path):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), 0)], NAMES, metadata=False)
    with pytest.raises(InputError, match=r"no class names for 'label' \(expected the Hugging Face 'ClassLabel' entry"):
        open_parquet([shard], "label", everything)


@pytest.mark.parametrize("metadata", ["{", "[]", '{"info": {}}', json.dumps({"info": {"features": {"label": {}}}})])
def test_unusable_schema_metadata_are_refused(tmp_path, metadata):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), 0)], NAMES)
    pq.write_table(pq.read_table(shard).replace_schema_metadata({"huggingface": metadata}), shard)
    with pytest.raises(InputError, match="no class names for 'label'"):
        open_parquet([shard], "label", everything)


@pytest.mark.parametrize("null", ["bytes", "struct"])
def test_a_row_without_image_bytes_is_refused_with_its_place(tmp_path, null):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), 0), (None, 1)], NAMES)
    if null == "struct":
        table = pq.read_table(shard)
        images = pa.array([table["image"][0].as_py(), None], table.schema.field("image").type)
        pq.write_table(table.set_column(0, "image", images), shard)
    source = open_parquet([shard], "label", everything)
    with pytest.raises(InputError, match=rf"^{shard}, row 1: the row has no image bytes \(only a path\?\); write"):
        contents(source)


def test_a_null_image_of_a_class_nobody_asked_for_does_no_harm(tmp_path):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), 0), (None, 1)], NAMES)
    assert contents(open_parquet([shard], "label", {"ant"}.__contains__)) == [("ant", png(0))]


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_shard_is_refused_when_it_is_opened(tmp_path, keep):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), 0)], NAMES)
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(
        InputError, match=rf"^{shard}: cannot read this Parquet file \(.+\); download or write it again"
    ):
        open_parquet([shard], "label", everything)


def test_a_missing_shard_is_refused_when_it_is_opened(tmp_path):
    with pytest.raises(InputError, match=r"none.parquet: cannot read the file \(No such file or directory\); restore"):
        open_parquet([tmp_path / "none.parquet"], "label", everything)


@pytest.mark.parametrize("use", ["count", "read"])
def test_a_shard_that_is_damaged_after_it_was_opened_is_refused(tmp_path, use):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), 0)], NAMES)
    source = open_parquet([shard], "label", everything)
    shard.write_bytes(b"PAR1" + b"\xff" * 300 + b"PAR1")
    with pytest.raises(InputError, match=rf"^{shard}: cannot read this Parquet file"):
        source.count() if use == "count" else contents(source)


def test_a_shard_that_vanishes_is_refused(tmp_path):
    shard = write_shard(tmp_path / "a.parquet", [(png(0), 0)], NAMES)
    source = open_parquet([shard], "label", everything)
    shard.unlink()
    with pytest.raises(InputError, match=rf"^{shard}: cannot read the file \(No such file or directory\)"):
        source.signature()


def test_shards_of_different_datasets_are_refused(tmp_path):
    first = write_shard(tmp_path / "a.parquet", [(png(0), 0)], NAMES)
    second = write_shard(tmp_path / "b.parquet", [(png(0), 0)], ["dog", "eel"])
    with pytest.raises(InputError, match=rf"^{second}: its classes or columns differ from those of {first}"):
        open_parquet([first, second], "label", everything)


def test_shards_that_number_their_classes_differently_are_refused(tmp_path):
    first = write_shard(tmp_path / "a.parquet", [(png(0), 0)], NAMES)
    second = write_shard(tmp_path / "b.parquet", [(png(0), 0)], NAMES[::-1])
    with pytest.raises(InputError, match="its classes or columns differ"):
        open_parquet([first, second], "label", everything)


# Folders


def test_folders_yield_class_name_bytes_and_path_in_order(tmp_path):
    write_folder(tmp_path, [(png(0), "bee"), (png(1), "ant"), (png(2), "bee")])
    source = open_folder(tmp_path)
    assert contents(source) == [("ant", png(1)), ("bee", png(0)), ("bee", png(2))]
    assert [image.where for image in source.read()] == [
        str(tmp_path / p) for p in ("ant/1.png", "bee/0.png", "bee/2.png")
    ]
    assert (source.class_names, source.count()) == (("ant", "bee"), 3)


def test_nested_files_belong_to_the_top_folder(tmp_path):
    write_folder(tmp_path / "ant" / "from paris", [(png(0), "2020"), (png(1), "2021")])
    assert contents(open_folder(tmp_path)) == [("ant", png(0)), ("ant", png(1))]


@pytest.mark.parametrize("ending", ["PNG", "jpg", "Jpeg", "webp", "bmp"])
def test_endings_of_images_are_known_in_any_case(tmp_path, ending):
    assert open_folder(write_folder(tmp_path, [(png(0), "ant")], ending)).files == ((f"ant/0.{ending}", "ant"),)


@pytest.mark.parametrize(
    "stray", [".hidden.png", ".thumbnails/0.png", "a/.b/c.png", "notes.txt", "0.png.part", "x.gif"]
)
def test_hidden_files_and_files_that_are_no_images_are_left_out(tmp_path, stray):
    write_folder(tmp_path, [(png(0), "ant")])
    path = tmp_path / "ant" / stray
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(1))
    assert contents(open_folder(tmp_path)) == [("ant", png(0))]


def test_folders_called_like_images_are_searched_not_read(tmp_path):
    write_folder(tmp_path / "ant" / "0.png", [(png(0), "more.jpg")])
    assert contents(open_folder(tmp_path)) == [("ant", png(0))]


def test_hidden_folders_and_loose_files_are_no_classes(tmp_path):
    write_folder(tmp_path, [(png(0), "ant"), (png(1), ".cache")])
    (tmp_path / "readme.png").write_bytes(png(2))
    assert open_folder(tmp_path).class_names == ("ant",)


def test_links_to_images_and_to_class_folders_inside_the_data_directory_are_followed(tmp_path):
    write_folder(tmp_path / "pool", [(png(0), "ant"), (png(1), "bee"), (png(2), "old")])
    (tmp_path / "set" / "cat").mkdir(parents=True)
    (tmp_path / "set" / "ant").symlink_to(tmp_path / "pool" / "ant")
    (tmp_path / "set" / "cat" / "0.png").symlink_to(tmp_path / "pool" / "bee" / "1.png")
    (tmp_path / "set" / "cat" / "more").symlink_to(tmp_path / "pool" / "old")
    expected = [("ant", png(0)), ("cat", png(1)), ("cat", png(2))]
    assert contents(open_folder(tmp_path / "set", data_dir=tmp_path)) == expected


def test_folder_that_is_missing_or_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(InputError, match=rf"^{path} is not a directory; expected one folder of images per class"):
            open_folder(path)


def test_folder_without_class_folders_is_refused(tmp_path):
    (tmp_path / "0.png").write_bytes(png(0))
    with pytest.raises(
        InputError, match=rf"^{tmp_path} has no class folders; expected {tmp_path}/<class name>/<image>"
    ):
        open_folder(tmp_path)


def test_a_class_without_images_is_refused(tmp_path):
    write_folder(tmp_path, [(png(0), "ant")])
    (tmp_path / "bee").mkdir()
    (tmp_path / "bee" / "notes.txt").write_text("none yet")
    with pytest.raises(InputError, match=rf"^{tmp_path}/bee holds no image \(\.png, .*\); add some or remove"):
        open_folder(tmp_path)


@pytest.mark.parametrize("use", ["signature", "read"])
def test_an_image_that_vanishes_is_refused_by_its_path(tmp_path, use):
    write_folder(tmp_path, [(png(0), "ant"), (png(1), "ant")])
    source = open_folder(tmp_path)
    (tmp_path / "ant" / "1.png").unlink()
    with pytest.raises(InputError, match=rf"^{tmp_path}/ant/1.png: cannot read the \w+ \(No such file or directory\)"):
        source.signature() if use == "signature" else contents(source)


def test_a_file_that_may_not_be_read_is_refused_by_its_path(tmp_path, monkeypatch):
    """The superuser may read everything, so the refusal of the system is played by hand."""

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    source = open_folder(write_folder(tmp_path, [(png(0), "ant")]))
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(
        InputError, match=r"ant/0.png: cannot read the image \(Permission denied\); check its permissions"
    ):
        contents(source)


def test_signature_tells_names_and_contents(tmp_path):
    write_folder(tmp_path, [(png(0), "ant")])
    signatures = {open_folder(tmp_path).signature()}
    (tmp_path / "ant" / "0.png").write_bytes(png(0) + b" ")
    signatures.add(open_folder(tmp_path).signature())
    (tmp_path / "ant").rename(tmp_path / "bee")
    signatures.add(open_folder(tmp_path).signature())
    assert len(signatures) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", signature) for signature in signatures)
