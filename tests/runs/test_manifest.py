"""A run resumes only as itself."""

from typing import Any

import pytest

from rayfs.errors import InputError
from rayfs.runs.run_manifest import first_difference, merge_manifest


@pytest.mark.parametrize(
    ("former", "now", "difference"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3, "b": 1}}, ("a.c", "2", "3")),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, ("a", "1", "2")),
        ({"a": {"b": 1}}, {"a": {}}, ("a.b", "1", "(absent)")),
        ({}, {"z": None}, ("z", "(absent)", "null")),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ("a.1.b", "2", "3")),
        ({"a": [1, 2]}, {"a": [1]}, ("a", "[1,2]", "[1]")),
        ({"lr": 1}, {"lr": 1.0}, ("lr", "1", "1.0")),
        ({"a": {"b": 1}}, {"a": None}, ("a", '{"b":1}', "null")),
    ],
)
def test_first_difference_is_named_by_its_dotted_path(former: Any, now: Any, difference: Any) -> None:
    assert first_difference(former, now) == difference


def merge(existing: dict | None = None, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "identity": {"benchmark": "omniglot", "protocol": {"n_way": 5}},
        "information": {"version": "0.1"},
        "methods": {"lr": {"c": 1.0}},
    }
    return merge_manifest(existing, location="runs/a", **(settings | changes))


def test_resuming_with_the_same_settings_changes_nothing() -> None:
    assert merge(merge()) == merge()


def test_new_methods_join_those_of_the_run() -> None:
    assert merge(merge(), methods={"cosine": {}})["methods"] == {"lr": {"c": 1.0}, "cosine": {}}


def test_information_of_every_session_is_kept_but_never_compared() -> None:
    resumed = merge(merge(), information={"version": "0.2"})
    assert resumed["sessions"] == [{"version": "0.1"}, {"version": "0.2"}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identity": {"benchmark": "omniglot", "protocol": {"n_way": 20}}}, "protocol.n_way was 5 and is now 20"),
        ({"identity": {"benchmark": "cub", "protocol": {"n_way": 5}}}, 'benchmark was "omniglot" and is now "cub"'),
        ({"methods": {"new": {}, "lr": {"c": 2.0}}}, "methods.lr.c was 1.0 and is now 2.0"),
    ],
)
def test_another_run_is_refused_with_the_first_difference(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"runs/a holds .*{message}; use another --out or the former settings"):
        merge(merge(), **changes)


def test_a_run_of_another_layout_is_refused() -> None:
    with pytest.raises(InputError, match="format was 0 and is now 1"):
        merge(merge() | {"format": 0})
