"""Published figures of compositional knowledge transfer, top-1 accuracy in percent: tables 1, 2, 3 and 9.

Parisot et al., "Long-tail Recognition via Compositional Knowledge Transfer", CVPR 2022. The paper has no CIFAR-100-LT:
there nothing stands beside ours. Names of rows are those of `rayfs.long_tail.settings.paper_classifiers`. No numpy
here, so that a command line opens fast.
"""

from collections.abc import Mapping

from rayfs.reports.published.table import Cell, Paper, PublishedRow, PublishedTable

PAPER = Paper(
    key="compositional",
    reference='Sarah Parisot et al. "Long-tail Recognition via Compositional Knowledge Transfer", CVPR 2022',
    short="Parisot et al., CVPR 2022",
)
GROUPS = ("many", "medium", "few", "all")
"""Columns of the paper's tables, by training images; as in `rayfs.long_tail.groups`, which imports numpy."""

Heads = Mapping[str, tuple[float | None, ...]]
"""Classifier or method -> many, medium, few, all; None where the paper has no figure."""


def _table(benchmark: str, name: str, backbone: str, title: str, heads: Heads) -> PublishedTable:
    rows = (
        PublishedRow(
            label=label,
            cells={(benchmark, g): Cell(accuracy=x) for g, x in zip(GROUPS, figures, strict=True) if x is not None},
        )
        for label, figures in heads.items()
    )
    return PublishedTable(paper=PAPER, name=name, backbone=backbone, title=title, rows=tuple(rows))


def _places(sampling: str, figures: tuple[tuple[float, float, float, float], ...]) -> PublishedTable:
    names = ("prototypes", "cosine", "classifier + prototype", "w^h(20)", "w^h(100)", "continual ensemble", "ensemble")
    return _table("places-lt", "table 9", "ResNet-101", sampling, dict(zip(names, figures, strict=True)))


TABLES: dict[str, PublishedTable] = {
    "1": _table("imagenet-lt", "tables 1 and 2", "ResNeXt-50", "square root", {
        "cosine": (68.5, 45.6, 20.6, 50.9), "prototypes": (63.5, 49.1, 27.4, 51.6),
        "classifier + prototype": (67.0, 48.7, 25.2, 52.4), "w^h(20)": (64.0, 44.4, 48.2, 52.7),
        "w^h(100)": (50.6, 57.8, 36.8, 51.9), "ensemble": (63.2, 52.1, 36.9, 54.2),
        "w^hc(20)": (61.7, 44.7, 48.3, 51.8), "w^hc(100)": (51.1, 55.3, 37.2, 51.0),
        "continual ensemble": (61.4, 51.1, 38.3, 53.2),
    }),
    "1-others": _table("imagenet-lt", "table 1", "ResNeXt-50", "other methods", {
        "LWS": (60.2, 47.2, 30.3, 49.9), "BALMS": (62.2, 48.8, 29.8, 51.4), "Causal norm": (62.7, 48.8, 31.6, 51.8),
        "RSG": (63.2, 48.2, 32.3, 51.8), "LADE": (62.3, 49.3, 31.2, 51.9), "DisAlign": (62.7, 52.1, 31.4, 53.4),
    }),
    "9-supervised-root": _places("supervised initialisation, square root", (
        (42.6, 39.7, 27.9, 38.3), (47.5, 35.0, 19.7, 36.3), (46.6, 37.2, 22.1, 37.4), (41.6, 30.4, 44.8, 37.5),
        (27.8, 46.9, 33.2, 37.1), (36.2, 37.8, 41.9, 38.1), (40.8, 40.1, 34.9, 39.3),
    )),
    "9-unsupervised-root": _places("unsupervised initialisation, square root", (
        (39.7, 38.6, 29.6, 37.1), (48.4, 33.8, 18.2, 35.8), (45.7, 38.4, 25.1, 38.2), (42.3, 32.6, 44.3, 38.6),
        (31.0, 47.2, 34.2, 38.6), (38.5, 38.4, 39.5, 38.6), (41.6, 41.4, 35.1, 40.2),
    )),
    "9-supervised-uniform": _places("supervised initialisation, uniform", (
        (43.1, 38.3, 29.7, 38.2), (48.1, 25.7, 10.0, 30.5), (47.4, 35.0, 21.0, 36.5), (42.2, 34.3, 39.8, 38.3),
        (31.6, 44.1, 31.9, 37.0), (34.9, 37.7, 37.0, 36.5), (40.6, 39.7, 34.8, 39.0),
    )),
    "9-unsupervised-uniform": _places("unsupervised initialisation, uniform", (
        (40.3, 38.1, 29.9, 37.1), (48.9, 27.0, 13.2, 32.0), (46.4, 37.0, 24.1, 37.7), (43.0, 35.2, 41.5, 39.4),
        (33.5, 45.8, 34.5, 39.0), (38.9, 38.9, 37.7, 38.7), (42.0, 41.7, 34.3, 40.2),
    )),
    "3": _table("places-lt", "table 3", "ResNet-152", "supervised initialisation", {
        "ensemble": (39.7, 41.0, 34.9, 39.2), "LWS": (40.6, 39.1, 28.6, 37.6), "BALMS": (42.0, 39.3, 30.5, 38.6),
        "LADE": (42.8, 39.0, 31.2, 38.8), "RSG": (41.9, 41.4, 32.0, 39.3), "DisAlign": (40.4, 42.4, 30.1, 39.3),
    }),
    "3-resnet101": _table("places-lt", "table 3", "ResNet-101", "", {"DisAlign": (39.1, 42.0, 29.1, 38.5)}),
}  # fmt: skip

UNSEEN_TABLES: dict[str, PublishedTable] = {
    "2-unseen": _table("imagenet-lt", "table 2", "ResNeXt-50", "few-shot classes left out of training", {
        "cosine": (66.0, 40.8, None, None), "prototypes": (61.8, 43.5, 26.2, 48.1),
        "w^hc(20)": (57.3, 37.7, 39.3, 45.6), "w^hc(100)": (50.0, 50.2, 25.8, 46.6),
        "continual ensemble": (58.9, 45.0, 32.2, 48.6),
    }),
}  # fmt: skip
"""Of networks that were trained without the few-shot classes."""
