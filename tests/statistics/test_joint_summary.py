"""Joint recognition: harmonic means, intervals and gains worked by hand."""

import pytest

from rayfs.reports.joint_cells import joint_cells
from rayfs.statistics.joint_summary import harmonic_mean, joint_observations, summarise_joint


@pytest.fixture
def rows(make_row):
    def joint(episode: int, method: str, novel: float | None, base: float | None):
        return make_row(episode, method, joint_novel_accuracy=novel, joint_base_accuracy=base)

    return [
        joint(0, "lr", 0.2, 0.6), joint(1, "lr", 0.4, 0.4), joint(0, "label-halluc", 0.4, 0.6),
        joint(1, "label-halluc", 0.6, 0.3), joint(0, "support-only", None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("novel", "base", "mean"), [(20, 60, 30), (40, 40, 40), (0, 80, 0), (0, 0, 0), (100, 50, 200 / 3)]
)
def test_harmonic_mean(novel, base, mean):
    assert harmonic_mean(novel, base) == pytest.approx(mean)


def test_figures_are_means_over_episodes_and_the_gain_is_paired(rows):
    joint = summarise_joint(rows, "lr", ["lr", "support-only", "label-halluc"])
    assert list(joint) == ["lr", "label-halluc"], "a method without joint rows is left out"
    lr, ours = joint["lr"], joint["label-halluc"]
    assert (lr.n, lr.novel, lr.base, lr.harmonic) == pytest.approx((2, 30, 50, 35))
    assert ours.harmonic == pytest.approx((48 + 40) / 2)
    assert ours.gain == pytest.approx(((48 - 30) + (40 - 40)) / 2)
    assert lr.gain is None and lr.harmonic_ci95 is not None and lr.harmonic_ci95 > 0


def test_repeats_of_an_episode_are_one_observation(make_row):
    rows = [
        make_row(i, episode_hash="same", joint_novel_accuracy=novel, joint_base_accuracy=0.5)
        for i, novel in enumerate((0.25, 0.75))
    ]
    assert joint_observations(rows) == {"same": pytest.approx((50, 50, 50))}


def test_table_names_both_accuracies_and_says_what_it_means(rows):
    cells = joint_cells(summarise_joint(rows, "lr", ["lr", "label-halluc"]), "lr", 64)
    assert cells.lines[1][0] == "label-halluc" and cells.lines[1][2].startswith("50.00 ±")
    assert "64 base classes" in cells.notes[0]
