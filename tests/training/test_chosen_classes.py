"""Groups of classes by their training images, for what a training leaves out."""

from rayfs.training.chosen_classes import groups_by_count


def test_groups_by_count_have_the_borders_of_both_conventions() -> None:
    counts = {"a": 500, "b": 101, "c": 100, "d": 99, "e": 21, "f": 20, "g": 19}
    assert groups_by_count(counts) == {
        "many": ["a", "b", "c"], "medium": ["d", "e"], "few": ["f", "g"],
        "many-kang": ["a", "b"], "medium-kang": ["c", "d", "e", "f"], "few-kang": ["g"],
    }  # fmt: skip
