"""A row is what one method did on one episode, in memory and in Arrow."""

import dataclasses
import math
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfs.errors import InputError
from rayfs.runs.episode_rows import EPISODES
from rayfs.runs.row_kind import rows_of, table_of
from rayfs.runs.rows import (
    SCHEMA,
    SCIENTIFIC_COLUMNS,
    Row,
    scientific_columns,
)

MakeRow = Callable[..., Row]


def test_schema_has_exactly_the_fields_of_a_row() -> None:
    assert SCHEMA.names == [field.name for field in dataclasses.fields(Row)]
    assert SCHEMA.field("predictions").type == SCHEMA.field("labels").type == pa.list_(pa.int16())


@given(
    accuracy=st.floats(0, 1),
    labels=st.lists(st.integers(0, 999), max_size=9),
    loss=st.none() | st.floats(allow_nan=False),
    device=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_rows_survive_the_table(make_row: MakeRow, accuracy: float, labels: list, loss: float, device: str) -> None:
    ok = make_row(3, accuracy=accuracy, labels=labels, predictions=labels[::-1], loss_base=loss, device=device)
    rows = [ok, make_row(4, accuracy=None)]
    assert rows_of(EPISODES, table_of(EPISODES, rows)) == rows


def test_no_rows_are_an_empty_table() -> None:
    assert table_of(EPISODES, []).schema == SCHEMA
    assert rows_of(EPISODES, table_of(EPISODES, [])) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"status": "done"}, "episode 0, method 'logistic-regression': status is 'done', expected 'ok' or 'failed'"),
        ({"status": "failed"}, "status 'failed' with accuracy 0.8"),
        ({"accuracy": None, "status": "ok"}, "status 'ok' with accuracy None"),
        ({"accuracy": 80.0}, "accuracy 80.0 is not a fraction"),
        ({"accuracy": math.nan}, "accuracy nan is not a fraction"),
        ({"predictions": [1]}, "1 predictions for 3 labels"),
    ],
)
def test_a_contradictory_row_is_refused(make_row: MakeRow, fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_row(**fields)


def test_reruns_on_other_machines_have_equal_scientific_columns(make_row: MakeRow) -> None:
    first = [make_row(0, loss_base=math.nan), make_row(1)]
    again = [
        make_row(1, seconds=9.0, attempt=2, device="cuda:1", node="n2", worker="w7"),
        make_row(0, loss_base=math.nan, error="retried"),
    ]
    assert scientific_columns(first) == scientific_columns(again)
    assert len(scientific_columns(first)[0]) == len(SCIENTIFIC_COLUMNS)


@pytest.mark.parametrize(
    "fields",
    [
        {"accuracy": math.nextafter(0.8, 1)},
        {"predictions": [0, 1, 1]},
        {"labels": [0, 1, 2]},
        {"episode_hash": "x"},
        {"config_hash": "x"},
        {"steps": 1},
        {"loss_base": 0.0},
        {"loss_support": 0.0},
    ],
)
def test_one_bit_makes_scientific_columns_differ(make_row: MakeRow, fields: dict) -> None:
    assert scientific_columns([make_row()]) != scientific_columns([make_row(**fields)])
