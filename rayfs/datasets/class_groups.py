"""Far domains: a benchmark whose base or novel set holds only chosen classes, such as base animals and novel things.

As in the README of Label Hallucination's code: miniImageNet's 16 animal base classes, its 11 other test classes.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from rayfs.datasets.registry import Benchmark
from rayfs.datasets.sources import Source
from rayfs.errors import InputError

EXCEPT = "not:"
"""Before a name, takes its classes away."""


def select_classes(
    names: Sequence[str], available: Sequence[str], groups: Mapping[str, Sequence[str]], flag: str
) -> tuple[str, ...]:
    """Choose among the classes of a split by name.

    A name that is both a class and a group means the class alone; the group's classes can still be named one by one.

    Arguments:
        names: classes and groups to keep, or with `not:` before them to take away, in any order; if all are to be taken
            away, from all classes.
        available: the classes there are.
        groups: for each group or superclass its classes; some may be of another split.
        flag: the flag that gave `names`, for messages.

    Returns:
        The chosen classes, in the order of `available`.

    Raises:
        InputError: a name that means no class here, or a choice of everything or of fewer than 2 classes.
    """
    removed = [name.removeprefix(EXCEPT) for name in names if name.startswith(EXCEPT)]
    kept = [name for name in names if not name.startswith(EXCEPT)]
    taken = set(chain.from_iterable(_classes_of(name, available, groups, flag) for name in removed))
    given = set(chain.from_iterable(_classes_of(name, available, groups, flag) for name in kept))
    chosen = tuple(name for name in available if (name in given or not kept) and name not in taken)
    if len(chosen) == len(available):
        raise InputError(
            f"{flag} {' '.join(names)} keeps all {len(available)} classes and changes nothing; drop it or name fewer"
        )
    if len(chosen) < 2:
        alone = f" ('{chosen[0]}')" if chosen else ""
        raise InputError(
            f"{flag} {' '.join(names)} keeps {len(chosen)} of {len(available)} classes{alone}, expected at least 2; "
            "name more"
        )
    return chosen


def restrict(
    benchmark: Benchmark, base: Sequence[str], novel: Sequence[str], split: str, novel_flag: str = "--novel-classes"
) -> Benchmark:
    """Return `benchmark` with only some base classes, and only some of the classes of `split`.

    Names are those of `select_classes`; no names keep a set as it is. Wrong names are refused when the split is opened,
    before any image is decoded. The restricted table has a fingerprint of its own, so its episodes are other ones.

    Arguments:
        base: what --base-classes gave.
        novel: what --novel-classes (or `novel_flag`) gave.
        split: where the novel classes come from, 'validation' or 'test'.

    Raises:
        InputError: `novel` with official episodes, which need all classes, or with the base split.
    """
    sources = dict(benchmark.sources)
    if novel and split == "base":
        raise InputError(
            "--novel-classes chooses among validation or test classes, not of split 'base'; use --base-classes"
        )
    if novel and split in benchmark.episodes:
        raise InputError(
            f"--novel-classes is {' '.join(novel)}, but split '{split}' of benchmark '{benchmark.name}' has official "
            "episodes of all its classes; drop the flag or use another split"
        )
    for part, names, flag in (("base", base, "--base-classes"), (split, novel, novel_flag)):
        if names:
            sources[part] = partial(_open_chosen, sources[part], benchmark.class_groups, tuple(names), flag)
    return replace(benchmark, sources=sources)


def _open_chosen(
    open_whole: Callable[[Path], Source],
    class_groups: Callable[[Sequence[str]], Mapping[str, Sequence[str]]],
    names: Sequence[str],
    flag: str,
    cache_dir: Path,
) -> Source:
    source = open_whole(cache_dir)
    available = source.class_names
    return source.only(select_classes(names, available, class_groups(available), flag))


def _classes_of(name: str, available: Sequence[str], groups: Mapping[str, Sequence[str]], flag: str) -> list[str]:
    """Return the available classes that `name` means, at least one."""
    if name in available:
        return [name]
    found = [member for member in groups.get(name, ()) if member in available]
    if found:
        return found
    usable = [group for group in groups if group not in available and not set(groups[group]).isdisjoint(available)]
    kinds = f"the name of a class (such as '{available[0]}')"
    kinds += f", of a group ({', '.join(usable)})" if usable else ""
    kinds += f", or one of these after '{EXCEPT}'"
    if name in groups or any(name in members for members in groups.values()):
        fault = f"means none of the {len(available)} classes of this split"
    else:
        close = difflib.get_close_matches(name, [*usable, *available])
        fault = "is no class or group here" + (f"; close are {', '.join(close)}" if close else "")
    raise InputError(f"{flag}: '{name}' {fault}; expected {kinds}")
