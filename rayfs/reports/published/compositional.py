"""Published figures of compositional knowledge transfer, top-1 accuracy in percent: tables 1, 2, 3 and 9.

Parisot et al., CVPR 2022. The paper has no CIFAR-100-LT: there nothing stands beside ours. Names are those of
`rayfs.long_tail.settings.paper_classifiers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rayfs.long_tail.groups import GROUPS


@dataclass(frozen=True, kw_only=True)
class PublishedHeads:
    """Accuracies of one published network."""

    source: str
    """Table, backbone, initialisation, sampling."""
    heads: Mapping[str, tuple[float | None, ...]]
    """Classifier or method -> many, medium, few, all; None where the paper has no figure."""

    def lines(self) -> list[tuple[str, dict[str, float | None]]]:
        """Return (name, group -> percent) of each."""
        return [(name, dict(zip(GROUPS, figures, strict=True))) for name, figures in self.heads.items()]


def _places(sampling: str, figures: tuple[tuple[float, float, float, float], ...]) -> PublishedHeads:
    names = ("prototypes", "cosine", "classifier + prototype", "w^h(20)", "w^h(100)", "continual ensemble", "ensemble")
    return PublishedHeads(source=f"table 9, ResNet-101, {sampling}", heads=dict(zip(names, figures, strict=True)))


PUBLISHED: dict[str, tuple[PublishedHeads, ...]] = {
    "imagenet-lt": (
        PublishedHeads(
            source="tables 1 and 2, ResNeXt-50, square root",
            heads={
                "cosine": (68.5, 45.6, 20.6, 50.9), "prototypes": (63.5, 49.1, 27.4, 51.6),
                "classifier + prototype": (67.0, 48.7, 25.2, 52.4), "w^h(20)": (64.0, 44.4, 48.2, 52.7),
                "w^h(100)": (50.6, 57.8, 36.8, 51.9), "ensemble": (63.2, 52.1, 36.9, 54.2),
                "w^hc(20)": (61.7, 44.7, 48.3, 51.8), "w^hc(100)": (51.1, 55.3, 37.2, 51.0),
                "continual ensemble": (61.4, 51.1, 38.3, 53.2),
            },
        ),
        PublishedHeads(
            source="table 1, ResNeXt-50, other methods",
            heads={
                "LWS": (60.2, 47.2, 30.3, 49.9), "BALMS": (62.2, 48.8, 29.8, 51.4),
                "Causal norm": (62.7, 48.8, 31.6, 51.8), "RSG": (63.2, 48.2, 32.3, 51.8),
                "LADE": (62.3, 49.3, 31.2, 51.9), "DisAlign": (62.7, 52.1, 31.4, 53.4),
            },
        ),
    ),
    "places-lt": (
        _places("supervised initialisation, square root", (
            (42.6, 39.7, 27.9, 38.3), (47.5, 35.0, 19.7, 36.3), (46.6, 37.2, 22.1, 37.4), (41.6, 30.4, 44.8, 37.5),
            (27.8, 46.9, 33.2, 37.1), (36.2, 37.8, 41.9, 38.1), (40.8, 40.1, 34.9, 39.3),
        )),
        _places("unsupervised initialisation, square root", (
            (39.7, 38.6, 29.6, 37.1), (48.4, 33.8, 18.2, 35.8), (45.7, 38.4, 25.1, 38.2), (42.3, 32.6, 44.3, 38.6),
            (31.0, 47.2, 34.2, 38.6), (38.5, 38.4, 39.5, 38.6), (41.6, 41.4, 35.1, 40.2),
        )),
        _places("supervised initialisation, uniform", (
            (43.1, 38.3, 29.7, 38.2), (48.1, 25.7, 10.0, 30.5), (47.4, 35.0, 21.0, 36.5), (42.2, 34.3, 39.8, 38.3),
            (31.6, 44.1, 31.9, 37.0), (34.9, 37.7, 37.0, 36.5), (40.6, 39.7, 34.8, 39.0),
        )),
        _places("unsupervised initialisation, uniform", (
            (40.3, 38.1, 29.9, 37.1), (48.9, 27.0, 13.2, 32.0), (46.4, 37.0, 24.1, 37.7), (43.0, 35.2, 41.5, 39.4),
            (33.5, 45.8, 34.5, 39.0), (38.9, 38.9, 37.7, 38.7), (42.0, 41.7, 34.3, 40.2),
        )),
        PublishedHeads(
            source="table 3, ResNet-152, supervised initialisation",
            heads={
                "ensemble": (39.7, 41.0, 34.9, 39.2), "LWS": (40.6, 39.1, 28.6, 37.6),
                "BALMS": (42.0, 39.3, 30.5, 38.6), "LADE": (42.8, 39.0, 31.2, 38.8), "RSG": (41.9, 41.4, 32.0, 39.3),
                "DisAlign": (40.4, 42.4, 30.1, 39.3),
            },
        ),
        PublishedHeads(source="table 3, ResNet-101", heads={"DisAlign": (39.1, 42.0, 29.1, 38.5)}),
    ),
}  # fmt: skip
"""Benchmark -> what the paper printed."""

PUBLISHED_UNSEEN: dict[str, tuple[PublishedHeads, ...]] = {
    "imagenet-lt": (
        PublishedHeads(
            source="table 2, ResNeXt-50, few-shot classes left out of training",
            heads={
                "cosine": (66.0, 40.8, None, None), "prototypes": (61.8, 43.5, 26.2, 48.1),
                "w^hc(20)": (57.3, 37.7, 39.3, 45.6), "w^hc(100)": (50.0, 50.2, 25.8, 46.6),
                "continual ensemble": (58.9, 45.0, 32.2, 48.6),
            },
        ),
    ),
}  # fmt: skip
"""The same of networks that were trained without the few-shot classes."""
