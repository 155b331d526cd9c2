"""Our rows beside published ones: gains, differences and verdicts worked by hand."""

import math
from typing import Any

import pytest

from rayfs.errors import InputError
from rayfs.methods.variants import method_settings
from rayfs.reports.paper_table import Ours, difference_interval, gain_verdict, paper_cells, published_gain
from rayfs.reports.published.label_halluc import TABLES
from rayfs.reports.published.registry import published_table
from rayfs.reports.published.table import Cell
from rayfs.reports.text_table import NONE
from rayfs.statistics.summary import MethodFigures


def ours(accuracy: float = 90.0, ci95: float | None = 0.5, gain: float | None = None, gain_ci95: float | None = None):
    figures = MethodFigures(
        accuracy=accuracy, ci95=ci95, gain=gain, gain_ci95=gain_ci95, n=600, n_distinct=600, n_failed=0,
        seconds_per_episode=None, mean_loss_base=None, mean_loss_support=None, episodes_for_half_point=None,
    )  # fmt: skip
    return Ours(figures=figures, embedding="skd-gen1")


def cells(table: str, found: dict[str, Ours], absent: dict[str, str] | None = None, **changes: Any):
    chosen = {"benchmark": "cifar-fs", "n_shot": 5, "backbone": "resnet12", **changes}
    return paper_cells(TABLES[table], found, absent or {}, **chosen)


def test_every_method_of_every_table_is_one_that_can_be_run():
    for table in TABLES.values():
        specs = dict.fromkeys(row.method for row in table.rows if row.method)
        for n_shot in (1, 5):
            assert list(method_settings(list(specs), "cifar-fs", table.n_way, n_shot, {})) == list(specs)


def test_every_embedding_has_its_frozen_row_so_that_gains_are_defined():
    for table in TABLES.values():
        embeddings = {row.embedding for row in table.rows if row.embedding}
        assert embeddings == {row.embedding for row in table.rows if row.method == table.baseline}


@pytest.mark.parametrize(
    ("table", "label", "benchmark", "n_shot", "gain"),
    [
        ("3", "soft pseudo-labels (Label-Halluc)", "cifar-fs", 5, 89.5 - 88.6),
        ("3", "finetune on support only", "fc100", 1, 43.1 - 46.5),
        ("4", "network only", "mini-imagenet", 1, 66.18 - 66.54),
        ("5", "IER-gen0, Label-Halluc", "fc100", 5, 67.2 - 63.8),
        ("2", "Label-Halluc (IER-distill)", "fc100", 1, 49.1 - 48.1),
        ("20-way", "Label-Halluc", "fc100", 10, 42.21 - 37.55),
    ],
)
def test_a_published_gain_is_over_the_frozen_row_of_the_same_embedding(table, label, benchmark, n_shot, gain):
    row = next(row for row in TABLES[table].rows if row.label == label)
    assert published_gain(TABLES[table], row, benchmark, n_shot) == pytest.approx(gain)


def test_mean_gains_of_table_5_are_those_that_the_paper_prints():
    for benchmark, printed in (("cifar-fs", 0.8), ("fc100", 3.2)):
        rows = [row for row in TABLES["5"].rows if row.method == "label-halluc"]
        gains = [published_gain(TABLES["5"], row, benchmark, 5) for row in rows]
        assert len(gains) == 6 and sum(gains) / 6 == pytest.approx(printed, abs=0.05)


@pytest.mark.parametrize(
    ("gain", "ci95", "published", "verdict"),
    [
        (2.0, 1.0, 0.9, "yes"),
        (-2.0, 1.0, 0.9, "no"),
        (-2.0, 1.0, -2.9, "yes"),
        (2.0, 2.0, 0.9, "open"),
        (0.0, 0.0, 0.9, "open"),
        (2.0, None, 0.9, NONE),
        (2.0, 1.0, None, NONE),
    ],
)
def test_verdict_on_a_gain(gain, ci95, published, verdict):
    assert gain_verdict(ours(gain=gain, gain_ci95=ci95), published) == verdict


def test_published_intervals_are_widened_to_their_distinct_episodes():
    difference, half_width = difference_interval(ours(90.5, 0.3), Cell(accuracy=89.5, ci95=0.4), TABLES["2"].widening)
    assert difference == pytest.approx(1.0)
    assert half_width == pytest.approx(math.sqrt(0.3**2 + 2 * 0.4**2))
    alone = difference_interval(ours(90.5, 0.3), Cell(accuracy=89.5), TABLES["2"].widening)
    assert alone == (pytest.approx(1.0), pytest.approx(0.3))


def test_a_difference_is_marked_where_zero_lies_inside():
    label = "Label-Halluc (SKD-GEN1)"
    agreeing, other = (cells("2", {label: ours(accuracy, 0.5)}) for accuracy in (89.9, 87.0))
    line, far = ({line[0]: line for line in found.lines}[label] for found in (agreeing, other))
    assert line[1] == "89.50 ± 0.50" and line[2] == "89.90 ± 0.50" and line[3] == "600 (600)"
    assert line[4] == "+0.40 ± 0.87 (=)" and far[4] == "-2.50 ± 0.87"


def test_another_backbone_has_no_difference_and_a_note():
    found = cells("3", {"frozen features + LR": ours()}, backbone="conv4")
    assert {line[4] for line in found.lines} == {NONE}
    assert any("not comparable cell by cell (cifar-fs with conv4" in note for note in found.notes)


def test_table_4_stands_beside_mini_imagenet_and_says_so():
    found = cells("4", {"network only": ours(gain=1.2, gain_ci95=0.4)}, n_shot=1)
    assert "mini-imagenet" in found.heading[1]
    line = {line[0]: line for line in found.lines}["network only"]
    assert line[1] == "66.18" and line[4] == NONE and line[5] == "-0.36" and line[6] == "+1.20 ± 0.40"
    assert line[7] == "no"


def test_a_row_without_embedding_says_what_is_missing():
    label = "IER-distill, LR"
    line = {line[0]: line for line in cells("5", {}, {label: "no resnet12_cifar_fs_ier_distill"}).lines}[label]
    assert line[2] == "no resnet12_cifar_fs_ier_distill" and line[1] == "89.70"


def test_rows_without_a_figure_for_the_benchmark_are_left_out():
    labels = {line[0] for line in cells("2", {}).lines}
    assert "TADAM" not in labels and "Shot-Free" in labels


def test_an_unknown_table_is_refused_with_what_there_is():
    with pytest.raises(InputError, match=r"--table is '7'; expected one of 2 \(CIFAR-FS and FC100\)"):
        published_table("7")
