"""Timings: composed episodes, ratios by round, what is printed, drawn and written."""

import xml.etree.ElementTree
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from rayfs.performance.timing_report import busy_note, draw_stages, speed_table, stage_table
from rayfs.performance.timings import Counts, Timing, compose, mean_by_stage, ratios, spread, timing_row, write_rows

STEP_STAGES = ("forward", "backward")
STAGES = ("support", "pseudo-labels", *STEP_STAGES, "query")
PART, WHOLE = Counts(steps=5, batches=4, looks=1), Counts(steps=300, batches=40, looks=4)

NAIVE = Timing(
    round=0, side="naive", workers=1, wall_s={"support": 1.0, "forward": 60.0, "backward": 30.0},
    cpu_s={"support": 1.0, "forward": 100.0, "backward": 60.0}, images=75_000, step_flops=3_000_000_000, measured=PART,
    whole=WHOLE, peak_rss_bytes=2_000_000_000, matmul_flops_per_s=1e11, copy_bytes_per_s=1e10, foreign_cores=0.1,
)  # fmt: skip
ENGINE = replace(
    NAIVE, side="engine float32", workers=2, wall_s={"support": 0.5, "forward": 20.0, "backward": 10.0},
    cpu_s={"support": 0.5, "forward": 20.0, "backward": 10.0},
)  # fmt: skip


def test_an_episode_is_composed_of_what_each_stage_does_once_or_often():
    part = {"support": 2.0, "pseudo-labels": 3.0, "forward": 1.0, "backward": 2.0, "query": 0.5, "other": 0.25}
    assert compose(part, PART, WHOLE, STEP_STAGES) == {
        "support": 2.0, "pseudo-labels": 30.0, "forward": 60.0, "backward": 120.0, "query": 2.0, "other": 0.25,
    }  # fmt: skip
    assert compose(part, WHOLE, WHOLE, STEP_STAGES) == part


def test_seconds_of_the_machine_are_those_of_a_process_shared_by_all():
    assert NAIVE.episode_s == 91 and ENGINE.episode_s == 15.25
    assert NAIVE.episode_cpu_s == 161 and ENGINE.episode_cpu_s == 30.5
    assert NAIVE.step_s(STEP_STAGES) == pytest.approx(0.3) and ENGINE.step_s(STEP_STAGES) == pytest.approx(0.05)
    assert NAIVE.flops_per_s(STEP_STAGES) == pytest.approx(1e10)


def test_ratios_are_taken_round_by_round():
    slower = replace(ENGINE, round=1, workers=1)
    timings = [ENGINE, NAIVE, replace(NAIVE, round=1), slower, replace(NAIVE, round=2)]
    assert ratios(timings, "engine float32") == [91 / 15.25, 91 / 30.5]
    assert ratios(timings, "engine float32", "episode_cpu_s") == [161 / 30.5, 161 / 30.5]
    assert spread([3.0, 1.0, 2.5]) == "2.50 [1.00, 3.00]"
    assert mean_by_stage([{"a": 1.0, "b": 2.0}, {"a": 3.0}]) == {"a": 2.0, "b": 1.0}


def test_tables_say_what_was_measured():
    table = stage_table([ENGINE, NAIVE], STAGES).splitlines()
    assert table[0].split("│")[1].strip() == "naive" and table[-1].split("│")[1].strip() == "91.0"
    speeds = {
        line.split("│")[0].strip(): line.split("│")[1:]
        for line in speed_table([NAIVE, ENGINE], STEP_STAGES).splitlines()
    }
    assert [cell.strip() for cell in speeds["ratio naive / side, wall"]] == ["–", "5.97 [5.97, 5.97]"]
    assert [cell.strip() for cell in speeds["GFLOP/s in steps"]] == ["10", "60"]
    assert [cell.strip() for cell in speeds["fraction of the peak"]] == ["10%", "60%"]
    assert [cell.strip() for cell in speeds["images/s in steps"]] == ["833", "5,000"]


def test_rounds_beside_other_work_are_named():
    assert busy_note([NAIVE, ENGINE]) == ""
    assert "1 of 2 rounds (1)" in busy_note([NAIVE, replace(NAIVE, round=1, foreign_cores=0.9)])


def test_figure_stands_alone_and_names_every_stage():
    svg = draw_stages([NAIVE, ENGINE], STAGES, "conv4")
    root = xml.etree.ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = "".join(root.itertext())
    assert all(name in text for name in (*STAGES, "naive", "engine float32", "conv4"))


def test_rows_are_written_flat(tmp_path):
    write_rows(tmp_path / "out" / "timings.parquet", [timing_row(NAIVE), {**timing_row(ENGINE), "more": 1}])
    rows = pq.read_table(tmp_path / "out" / "timings.parquet").to_pylist()
    assert [row["episode_s"] for row in rows] == [91, 15.25]
    assert rows[1]["forward_wall_s"] == 20 and rows[0]["whole_steps"] == 300 and rows[0]["more"] is None
