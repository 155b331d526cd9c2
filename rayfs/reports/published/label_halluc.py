"""Published figures of Label Hallucination, and what this project runs to stand beside each.

Yiren Jian, Lorenzo Torresani. "Label Hallucination for Few-Shot Classification", AAAI 2022, arXiv:2112.03340, tables 2
to 6, and the README of its released code (10- and 20-way). Accuracies and 95% half-widths in percent, 5-way unless the
table says otherwise, ResNet-12 unless the row says otherwise. No torch here, so that a command line opens fast.
"""

import math

from rayfs.methods.registry import BASELINE as FROZEN
from rayfs.reports.published.table import Cell, Column, Paper, PublishedRow, PublishedTable

PAPER = Paper(
    key="label-halluc",
    reference='Yiren Jian, Lorenzo Torresani. "Label Hallucination for Few-Shot Classification", AAAI 2022',
    short="Jian and Torresani, AAAI 2022",
)
OURS = "label-halluc"

DISTINCT = (
    "The published runs that come with logs evaluate every episode twice (two loader workers share one generator "
    "state): their 600 episodes are 300 distinct ones, and honest intervals about 1.4 times as wide."
)

Cells = dict[tuple[str, Column], Cell]


def _table(name: str, title: str, *rows: PublishedRow, n_way: int = 5) -> PublishedTable:
    return PublishedTable(
        paper=PAPER, name=name, title=title, backbone="ResNet-12", runs_as="resnet12", baseline=FROZEN,
        baseline_label="LR", widening=math.sqrt(2), widening_note=DISTINCT, n_way=n_way, rows=rows,
    )  # fmt: skip


def _row(label: str, embedding: str | None, method: str | None, *parts: Cells) -> PublishedRow:
    cells = {key: cell for part in parts for key, cell in part.items()}
    return PublishedRow(label=label, embedding=embedding, method=method, cells=cells)


def _cells(benchmark: str, *figures: tuple[int, float] | tuple[int, float, float]) -> Cells:
    return {(benchmark, figure[0]): Cell(accuracy=figure[1], ci95=(*figure, None)[2]) for figure in figures}


def _two(fs1: float, fs5: float, fc1: float, fc5: float) -> tuple[Cells, Cells]:
    """Return cells without intervals: CIFAR-FS 1- and 5-shot, FC100 1- and 5-shot."""
    return _cells("cifar-fs", (1, fs1), (5, fs5)), _cells("fc100", (1, fc1), (5, fc5))


def _five(cifar_fs: float, fc100: float) -> tuple[Cells, Cells]:
    """Return 5-shot cells without intervals."""
    return _cells("cifar-fs", (5, cifar_fs)), _cells("fc100", (5, fc100))


TABLES: dict[str, PublishedTable] = {
    "2": _table(
        "table 2", "CIFAR-FS and FC100",
        _row("ProtoNet", None, None, _cells("cifar-fs", (1, 72.2, 0.7), (5, 83.5, 0.5)),
             _cells("fc100", (1, 37.5, 0.6), (5, 52.5, 0.6))),
        _row("TADAM", None, None, _cells("fc100", (1, 40.1, 0.4), (5, 56.1, 0.4))),
        _row("MetaOptNet", None, None, _cells("cifar-fs", (1, 72.6, 0.7), (5, 84.3, 0.5)),
             _cells("fc100", (1, 41.1, 0.6), (5, 55.5, 0.6))),
        _row("MTL", None, None, _cells("fc100", (1, 45.1, 1.8), (5, 57.6, 0.9))),
        _row("Shot-Free", None, None, _cells("cifar-fs", (1, 69.2), (5, 84.7))),
        _row("DSN-MR", None, None, _cells("cifar-fs", (1, 75.6, 0.9), (5, 86.2, 0.6))),
        _row("DeepEMD", None, None, _cells("fc100", (1, 46.5, 0.8), (5, 63.2, 0.7))),
        _row("RFS-simple", "rfs-simple", FROZEN, _cells("cifar-fs", (1, 71.5, 0.8), (5, 86.0, 0.5)),
             _cells("fc100", (1, 42.6, 0.7), (5, 59.1, 0.6))),
        _row("RFS-distill", "rfs-distill", FROZEN, _cells("cifar-fs", (1, 73.9, 0.8), (5, 86.9, 0.5)),
             _cells("fc100", (1, 44.6, 0.7), (5, 60.9, 0.6))),
        _row("AssoAlign (ResNet-18)", None, None, _cells("fc100", (1, 45.8, 0.5), (5, 59.7, 0.6))),
        _row("SKD-GEN1 (their re-run)", "skd-gen1", FROZEN, _cells("cifar-fs", (1, 76.6, 0.9), (5, 88.6, 0.5)),
             _cells("fc100", (1, 46.5, 0.8), (5, 64.2, 0.8))),
        _row("InfoPatch", None, None, _cells("fc100", (1, 43.8, 0.4), (5, 58.0, 0.4))),
        _row("IER-distill (their re-run)", "ier-distill", FROZEN,
             _cells("cifar-fs", (1, 77.6, 1.0), (5, 89.7, 0.6)), _cells("fc100", (1, 48.1, 0.8), (5, 65.0, 0.7))),
        _row("Label-Halluc (SKD-GEN1)", "skd-gen1", OURS, _cells("cifar-fs", (1, 77.3, 0.9), (5, 89.5, 0.5)),
             _cells("fc100", (1, 47.3, 0.8), (5, 67.2, 0.8))),
        _row("Label-Halluc (IER-distill)", "ier-distill", OURS, _cells("cifar-fs", (1, 78.0, 1.0), (5, 90.5, 0.6)),
             _cells("fc100", (1, 49.1, 0.8), (5, 68.0, 0.7))),
    ),
    "3": _table(
        "table 3", "what to do with the base set (SKD-GEN1)",
        _row("frozen features + LR", "skd-gen1", FROZEN, *_two(76.6, 88.6, 46.5, 64.2)),
        _row("finetune on support only", "skd-gen1", "support-only", *_two(68.8, 85.7, 43.1, 61.9)),
        _row("hard pseudo-labels", "skd-gen1", "hard-label", *_two(75.3, 85.3, 44.6, 62.4)),
        _row("soft pseudo-labels (Label-Halluc)", "skd-gen1", OURS, *_two(77.3, 89.5, 47.3, 67.2)),
    ),
    "4": _table(
        "table 4", "what the loss on base images trains (SKD-GEN1; published on miniImageNet only)",
        _row("frozen features + LR", "skd-gen1", FROZEN, _cells("mini-imagenet", (1, 66.54), (5, 83.18))),
        _row("nothing (support only)", "skd-gen1", "support-only",
             _cells("mini-imagenet", (1, 61.43), (5, 80.03))),
        _row("nothing, base images in the batch (ours)", "skd-gen1", "label-halluc:base-gradient=none"),
        _row("classifier only", "skd-gen1", "label-halluc:base-gradient=head",
             _cells("mini-imagenet", (1, 63.59), (5, 81.53))),
        _row("network only", "skd-gen1", "label-halluc:base-gradient=backbone",
             _cells("mini-imagenet", (1, 66.18), (5, 84.36))),
        _row("both (Label-Halluc)", "skd-gen1", OURS, _cells("mini-imagenet", (1, 67.50), (5, 85.60))),
    ),
    "5": _table(
        "table 5", "frozen LR and Label-Halluc on six embeddings",
        *(
            row
            for name, label, lr_fs, ours_fs, lr_fc, ours_fc in (
                ("rfs-simple", "RFS-simple", 86.6, 87.3, 58.1, 61.2),
                ("rfs-distill", "RFS-distill", 86.5, 87.1, 61.0, 63.9),
                ("skd-gen0", "SKD-gen0", 87.8, 88.8, 62.8, 66.5),
                ("skd-gen1", "SKD-gen1", 88.6, 89.5, 64.2, 67.2),
                ("ier-gen0", "IER-gen0", 89.5, 90.2, 63.8, 67.2),
                ("ier-distill", "IER-distill", 89.7, 90.5, 65.0, 68.0),
            )
            for row in (
                _row(f"{label}, LR", name, FROZEN, *_five(lr_fs, lr_fc)),
                _row(f"{label}, Label-Halluc", name, OURS, *_five(ours_fs, ours_fc)),
            )
        ),
    ),
    "6": _table(
        "table 6", "associative alignment (SKD-GEN1)",
        _row("frozen features + LR", "skd-gen1", FROZEN, *_five(88.6, 64.2)),
        _row("softmax, no base images", "skd-gen1", "support-only", *_five(85.7, 61.9)),
        _row("arcMax, related", "skd-gen1", "assoalign:classifier-loss=arcmax,centroid-alignment=off",
             *_five(85.3, 60.6)),
        _row("arcMax + alignment, related", "skd-gen1", "assoalign:classifier-loss=arcmax", *_five(86.3, 62.6)),
        _row("softmax + alignment, related", "skd-gen1", "assoalign", *_five(87.6, 63.6)),
        _row("Label-Halluc, related", "skd-gen1", "label-halluc:base-subset=related", *_five(89.3, 66.8)),
        _row("Label-Halluc, whole base set", "skd-gen1", OURS, *_five(89.5, 67.2)),
    ),
    "10-way": _table(
        "README of the released code", "10-way (README of the released code)",
        _row("SKD, LR", "skd-gen1", FROZEN, _cells("cifar-fs", (5, 79.01, 0.80)), _cells("fc100", (5, 46.66, 0.49))),
        _row("Label-Halluc", "skd-gen1", OURS, _cells("cifar-fs", (5, 80.99, 0.75)), _cells("fc100", (5, 49.63, 0.49))),
        n_way=10,
    ),
    "20-way": _table(
        "README of the released code", "20-way (README of the released code)",
        _row("SKD, LR", "skd-gen1", FROZEN, _cells("cifar-fs", (10, 71.33, 0.30)), _cells("fc100", (10, 37.55, 0.22))),
        _row("Label-Halluc", "skd-gen1", OURS, _cells("cifar-fs", (10, 75.40, 0.31)),
             _cells("fc100", (10, 42.21, 0.22))),
        n_way=20,
    ),
}  # fmt: skip
"""What --table takes."""
