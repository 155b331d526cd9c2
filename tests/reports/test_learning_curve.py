"""Learning curves as rows and as a figure."""

import xml.etree.ElementTree as ElementTree

import pyarrow.parquet as pq

from rayfs.reports.learning_curve import draw_learning_curve, write_learning_curve


def curve(n: int) -> list[dict]:
    return [
        {
            "epoch": epoch, "learning_rate": 0.05 if epoch < 3 else 0.005, "loss": 4 / epoch,
            "parts": {"ce": 3 / epoch, "rotation": 0.5 / epoch}, "train_accuracy": epoch / 10,
            "validation_accuracy": 0.2 + 0.1 * min(epoch, 3), "validation_half_width": 0.01, "seconds": 2.0,
            "images_per_second": 1000.0,
        }
        for epoch in range(1, n + 1)
    ]  # fmt: skip


def test_rows_are_one_an_epoch_with_every_term_of_the_loss(tmp_path):
    rows_path, figure_path = write_learning_curve(tmp_path / "a.safetensors", curve(4), "rfs-simple, conv4 on fc100")
    assert (rows_path.name, figure_path.name) == ("a.curve.parquet", "a.curve.svg")
    rows = pq.read_table(rows_path).to_pylist()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[1] == {
        "epoch": 2, "learning_rate": 0.05, "loss": 2.0, "loss_ce": 1.5, "loss_rotation": 0.25, "train_accuracy": 0.2,
        "validation_accuracy": 0.4, "validation_half_width": 0.01, "seconds": 2.0, "images_per_second": 1000.0,
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.curve.parquet", "a.curve.svg"]


def test_figure_names_title_terms_and_the_kept_epoch_and_is_the_same_every_time():
    svg = draw_learning_curve(curve(5), "rfs-simple, conv4 on fc100")
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    drawn = svg.decode()
    for text in ("rfs-simple, conv4 on fc100", "kept: epoch 3, 50.00 ± 1.00", "rotation (unweighted)", "accuracy %"):
        assert f">{text}<" in drawn
    assert svg == draw_learning_curve(curve(5), "rfs-simple, conv4 on fc100")


def test_one_epoch_is_a_figure_too():
    assert b"kept: epoch 1" in draw_learning_curve(curve(1), "t")
