"""Training on some classes of a long-tailed benchmark, whose splits share them: without the few-shot ones, say.

Compositional knowledge transfer, section 4.3: classes that the network never saw are then recognised by their
prototypes (`jobs/long_tail_eval.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from rayfs.datasets.class_groups import select_classes
from rayfs.datasets.registry import Benchmark
from rayfs.datasets.sources import Source
from rayfs.errors import InputError
from rayfs.long_tail.groups import RULES, class_groups

FLAG = "--base-classes"
LEAST_VALIDATED = 2
"""Classes with validation images: fewer give no interval."""


def restrict_shared(benchmark: Benchmark, names: Sequence[str], cache_dir: Path) -> tuple[Benchmark, tuple[str, ...]]:
    """Return `benchmark` with the base and validation images of some classes alone, and the classes left out.

    Arguments:
        names: as `rayfs.datasets.class_groups.select_classes` has them, with `groups_by_count` among the groups.

    Raises:
        InputError: wrong names, or fewer than 2 of the classes have validation images.
    """
    base, validation = (benchmark.source(split, cache_dir) for split in ("base", "validation"))
    groups = {**benchmark.class_groups(base.class_names), **groups_by_count(base.class_counts())}
    chosen = select_classes(names, base.class_names, groups, FLAG)
    validated = [name for name in chosen if name in validation.class_names]
    if len(validated) < LEAST_VALIDATED:
        raise InputError(
            f"{FLAG} {' '.join(names)} keeps {len(chosen)} of {len(base.class_names)} classes, {len(validated)} of "
            f"which have validation images, expected at least {LEAST_VALIDATED}: they choose the epoch to keep; name "
            "more"
        )
    sources = dict(benchmark.sources)
    sources["base"] = partial(_given, base.only(chosen))
    sources["validation"] = partial(_given, validation.only(validated))
    left_out = tuple(name for name in base.class_names if name not in chosen)
    return replace(benchmark, sources=sources), left_out


def groups_by_count(counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the many-, medium- and few-shot classes: `few` with the paper's borders, `few-kang` with Kang's.

    Arguments:
        counts: training images of each class.
    """
    named, groups = list(counts), {}
    for borders in RULES:
        members = class_groups(np.array(list(counts.values())), borders)
        for group in ("many", "medium", "few"):
            name = group if borders == "paper" else f"{group}-{borders}"
            groups[name] = [named[i] for i in np.flatnonzero(members[group])]
    return groups


def _given(source: Source, cache_dir: Path) -> Source:
    return source
