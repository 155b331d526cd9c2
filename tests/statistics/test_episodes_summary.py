"""What summary.json says of a run of episodes."""

from collections.abc import Callable

from rayfs.datasets.episodes import Protocol
from rayfs.runs.identity import NetworkIdentity
from rayfs.runs.rows import Row
from rayfs.statistics.episodes_summary import EpisodesSummary
from rayfs.statistics.joint_summary import summarise_joint
from rayfs.statistics.summary import summarise


def summary(rows: list[Row], n_episodes: int) -> EpisodesSummary:
    return EpisodesSummary(
        benchmark="omniglot", protocol=Protocol(n_way=5, n_shot=1, n_query=3, split="test", seed=7),
        n_episodes=n_episodes, backbone=NetworkIdentity(name="conv4", state_hash="ab"),
        figures=summarise(rows, "a", ["a", "b"]), joint=summarise_joint(rows, "a", ["a", "b"]),
    )  # fmt: skip


def test_it_says_what_was_run_then_the_figures(make_row: Callable[..., Row]) -> None:
    rows = [make_row(i, name, accuracy) for i in range(2) for name, accuracy in (("a", 0.5), ("b", 0.75))]
    found = summary(rows, 9).to_json()
    assert list(found) == ["benchmark", "protocol", "backbone", "baseline", "methods"]
    protocol = {"n_way": 5, "n_shot": 1, "n_query": 3, "split": "test", "seed": 7, "episodes": 9}
    assert (found["benchmark"], found["protocol"]) == ("omniglot", protocol)
    assert found["backbone"] == {"name": "conv4", "state_hash": "ab"} and found["baseline"] == "a"
    assert {name: (figures["n"], figures["gain"]) for name, figures in found["methods"].items()} == {
        "a": (2, None),
        "b": (2, 25.0),
    }


def test_joint_recognition_is_there_where_it_was_asked_for(make_row: Callable[..., Row]) -> None:
    rows = [make_row(i, "a", joint_novel_accuracy=0.5, joint_base_accuracy=0.5) for i in range(2)]
    joint = summary(rows, 2).to_json()["joint"]
    assert list(joint) == ["a"] and (joint["a"]["n"], joint["a"]["harmonic"], joint["a"]["gain"]) == (2, 50.0, None)
