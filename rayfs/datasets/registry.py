"""Benchmarks by name: which images, which classes are base, validation and test, and how views of them are made."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rayfs.datasets import cifar100
from rayfs.datasets.augmentation import Augmentation
from rayfs.datasets.episodes import SPLITS
from rayfs.datasets.folder_files import class_folders
from rayfs.datasets.image_lists import open_image_list
from rayfs.datasets.long_tail import IMBALANCES, open_cifar100_lt
from rayfs.datasets.sources import FolderSource, Source, open_folder, open_parquet
from rayfs.errors import InputError

PACKAGE = Path(__file__).parent
OMNIGLOT = PACKAGE / "data" / "omniglot"

OMNIGLOT_ALPHABETS = {
    "base": ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"),
    "validation": ("Tagalog",),
    "test": ("Japanese_(katakana)", "Sanskrit"),
}
"""Background small 1 is the base set; background small 2 gives the rest, without the alphabets it shares with it."""

OMNIGLOT_AUGMENTATION = Augmentation(crop_padding=2, rotation_deg=10.0, scale=0.1, shear_deg=10.0, fill=255)
"""Ours: handwriting varies by slant, size and position, never by mirror image."""

OMNIGLOT_ONE_SHOT_ERRORS = {"people": 4.5, "BPL": 4.2, "ConvNet": 23.2, "prototypical networks": 30.1}
"""Error in percent over the 400 trials; systems trained on the minimal background set (Lake et al.)."""

CIFAR_MEAN, CIFAR_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
"""RFS's constants for CIFAR-100 (MetaOptNet's differ)."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

NATURAL_MEAN, NATURAL_STD = (0.4721, 0.4533, 0.4100), (0.2772, 0.2678, 0.2845)
"""Constants of miniImageNet in RFS, for photographs of unknown origin."""


def _no_groups(class_names: Sequence[str]) -> dict[str, list[str]]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What is known about a benchmark before any image is decoded."""

    name: str
    image_size: int
    """Pixels of the square images."""
    channels: int
    """1 grey, 3 RGB."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Per channel, of images scaled to [0, 1]."""
    augmentation: Augmentation
    sources: Mapping[str, Callable[[Path], Source]]
    """For each split what opens its images; opened on demand, so a split nobody asks for may be missing."""
    class_groups: Callable[[Sequence[str]], Mapping[str, Sequence[str]]] = _no_groups
    """Given the class names of a split, the classes of each superclass or group; those of other splits may be there."""
    episodes: Mapping[str, Path] = field(default_factory=dict)
    """For a split with official episodes, their manifest."""
    published_errors: Mapping[str, float] = field(default_factory=dict)
    """Published error rates in percent, where the benchmark reports errors."""
    shared_classes: bool = False
    """Every split has the same classes (long-tailed recognition): no few-shot episodes, no novel classes."""

    def source(self, split: str, cache_dir: Path) -> Source:
        """Open the images of `split` ('base', 'validation' or 'test'); `cache_dir` keeps converted files.

        Raises:
            InputError: the images are missing or unreadable.
        """
        return self.sources[split](cache_dir)


def open_benchmark(name: str, data: str | None = None, image_size: int | None = None) -> Benchmark:
    """Return benchmark `name`.

    Arguments:
        data: folder of the images; without it `$RAYFS_DATA/cifar100` for the CIFAR benchmarks. Embedded ones need none.
        image_size: pixels; without it the benchmark's own (28 omniglot, 32 CIFAR, 84 folder, 224 the lists).

    Raises:
        InputError: unknown name, missing folder or impossible size; says what to give instead.
    """
    if name not in BENCHMARKS:
        raise InputError(f"--benchmark is '{name}'; expected one of {', '.join(BENCHMARKS)}")
    if image_size is not None and not 16 <= image_size <= 512:
        raise InputError(f"--image-size is {image_size}; expected 16 to 512 pixels")
    return BENCHMARKS[name](data, image_size)


def refuse_shared_classes(benchmark: Benchmark) -> None:
    """Refuse a benchmark of long-tailed recognition where novel classes are needed.

    Raises:
        InputError: names the job that serves it.
    """
    if benchmark.shared_classes:
        raise InputError(
            f"--benchmark {benchmark.name} has the same classes in every split, so there are no novel classes to draw "
            "episodes from; use jobs/long_tail_eval.py, or a few-shot benchmark (cifar-fs, fc100, omniglot, folder)"
        )


def _omniglot(data: str | None, image_size: int | None) -> Benchmark:
    _refuse_data("omniglot", data)
    sources = {split: _omniglot_source(alphabets) for split, alphabets in OMNIGLOT_ALPHABETS.items()}
    return Benchmark(
        name="omniglot",
        image_size=image_size or 28,
        channels=1,
        mean=(0.92,),
        std=(0.2,),
        augmentation=OMNIGLOT_AUGMENTATION,
        sources=sources,
        class_groups=_by_alphabet,
    )


def _omniglot_one_shot(data: str | None, image_size: int | None) -> Benchmark:
    _refuse_data("omniglot-one-shot", data)
    if image_size not in (None, 28):
        raise InputError(f"--image-size is {image_size}; the official runs are addressed at 28 pixels: drop the flag")
    sources = {split: _omniglot_source(OMNIGLOT_ALPHABETS[split]) for split in ("base", "validation")}
    sources["test"] = lambda cache_dir: open_parquet([OMNIGLOT / "one_shot_runs.parquet"], "label", lambda name: True)
    return Benchmark(
        name="omniglot-one-shot",
        image_size=28,
        channels=1,
        mean=(0.92,),
        std=(0.2,),
        augmentation=OMNIGLOT_AUGMENTATION,
        sources=sources,
        class_groups=_by_alphabet,
        episodes={"test": OMNIGLOT / "one_shot_episodes.parquet"},
        published_errors=OMNIGLOT_ONE_SHOT_ERRORS,
    )


def _omniglot_source(alphabets: tuple[str, ...]) -> Callable[[Path], Source]:
    def open_shards(cache_dir: Path) -> Source:
        shards = [OMNIGLOT / f"{alphabet}.parquet" for alphabet in alphabets]
        return open_parquet(shards, "label", lambda name: name.split("/")[0] in alphabets)

    return open_shards


def _by_alphabet(class_names: Sequence[str]) -> dict[str, list[str]]:
    """Group characters ('Latin/character01') by alphabet; those of other splits get none."""
    alphabets = [alphabet for names in OMNIGLOT_ALPHABETS.values() for alphabet in names]
    return {alphabet: [name for name in class_names if name.split("/")[0] == alphabet] for alphabet in alphabets}


def _cifar(name: str, splits_file: str, data: str | None, image_size: int | None) -> Benchmark:
    """Return a few-shot benchmark on CIFAR-100, with the class lists in `splits_file`."""
    splits = json.loads((PACKAGE / "splits" / splits_file).read_text())
    folder = _data_folder(name, data, "cifar100")
    return _on_cifar100(
        name, {split: partial(cifar100.open_source, folder, splits[split]) for split in SPLITS}, image_size or 32
    )


def _cifar_lt(name: str, imbalance: int, data: str | None, image_size: int | None) -> Benchmark:
    """Return CIFAR-100-LT with this ratio of the largest to the smallest class; without jitter, as in LDAM's code."""
    folder = _data_folder(name, data, "cifar100")
    whole = _on_cifar100(
        name, {split: partial(open_cifar100_lt, folder, imbalance, split) for split in SPLITS}, image_size or 32
    )
    return replace(whole, augmentation=replace(whole.augmentation, jitter=0.0), shared_classes=True)


def _on_cifar100(name: str, sources: Mapping[str, Callable[[Path], Source]], image_size: int) -> Benchmark:
    return Benchmark(
        name=name, image_size=image_size, channels=3, mean=CIFAR_MEAN, std=CIFAR_STD, sources=sources,
        class_groups=_cifar_groups, augmentation=photo_augmentation(image_size),
    )  # fmt: skip


def _image_lists(name: str, prefix: str, data: str | None, image_size: int | None) -> Benchmark:
    """Return a benchmark from the lists `<prefix>_train.txt` etc. in --data DIR, of images in DIR.

    Augmentation as in Kang et al., "Decoupling representation and classifier for long-tailed recognition", ICLR 2020.
    Deviation: their code scales the shorter side to 256 before it cuts out the central 224 pixels, for evaluation, and
    takes random crops from the whole picture; here every picture becomes its central square of 224 first.
    """
    if data is None:
        raise InputError(f"--benchmark {name} needs --data DIR with {prefix}_train.txt and the images it lists")
    folder = _data_folder(name, data, "")
    return Benchmark(
        name=name,
        image_size=image_size or 224,
        channels=3,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        sources={split: partial(open_image_list, folder, prefix, split) for split in SPLITS},
        augmentation=Augmentation(crop_area=0.08, jitter=0.4, flip=True),
        shared_classes=True,
    )


def _cifar_groups(class_names: Sequence[str]) -> dict[str, list[str]]:
    return cifar100.class_groups()


def _folder(data: str | None, image_size: int | None) -> Benchmark:
    if data is None:
        raise InputError("--benchmark folder needs --data DIR with class folders in DIR/train, DIR/val and DIR/test")
    root, size = _data_folder("folder", data, ""), image_size or 84
    names = dict(zip(SPLITS, ("train", "val", "test"), strict=True))
    sources = {split: partial(_open_split_folder, root, name) for split, name in names.items()}
    return Benchmark(
        name="folder",
        image_size=size,
        channels=3,
        mean=NATURAL_MEAN,
        std=NATURAL_STD,
        sources=sources,
        augmentation=photo_augmentation(size),
    )


def _open_split_folder(root: Path, name: str, cache_dir: Path) -> FolderSource:
    source = open_folder(root / name, data_dir=root)
    for other in ("train", "val", "test"):
        if other == name or not (root / other).is_dir():
            continue
        shared = sorted(set(source.class_names) & {path.name for path in class_folders(root / other, root)})
        if shared:
            raise InputError(
                f"class '{shared[0]}' is in both {root / name} and {root / other} ({len(shared)} shared classes); "
                "base, validation and test classes must differ: rename or move them"
            )
    return source


def photo_augmentation(image_size: int) -> Augmentation:
    """Return the literature's augmentation of photographs: padded crop (4 at 32 px, 8 at 84 px), jitter 0.4, flip."""
    return Augmentation(
        crop_padding=4 if image_size <= 48 else max(8, round(image_size * 8 / 84)), jitter=0.4, flip=True
    )


def _data_folder(name: str, data: str | None, below: str) -> Path:
    """Return the folder the user's images are in: --data, or a folder of $RAYFS_DATA."""
    given = f"--data {data}"
    if data is None:
        if not os.environ.get("RAYFS_DATA"):
            raise InputError(
                f"--benchmark {name} needs --data DIR (or RAYFS_DATA set to the folder that holds '{below}')"
            )
        data = str(Path(os.environ["RAYFS_DATA"]) / below)
        given = f"RAYFS_DATA is {os.environ['RAYFS_DATA']}, without --data the images are expected in {data}"
    folder = Path(data).expanduser().resolve()
    if not folder.is_dir():
        raise InputError(f"{given}: there is no such folder; pass --data DIR with the folder of the images")
    return folder


def _refuse_data(name: str, data: str | None) -> None:
    if data is not None:
        raise InputError(f"--benchmark {name} is embedded in the package and takes no --data (got '{data}')")


BENCHMARKS: Mapping[str, Callable[[str | None, int | None], Benchmark]] = {
    "omniglot": _omniglot,
    "omniglot-one-shot": _omniglot_one_shot,
    "cifar-fs": partial(_cifar, "cifar-fs", "cifar_fs.json"),
    "fc100": partial(_cifar, "fc100", "fc100.json"),
    **{name: partial(_cifar_lt, name, imbalance) for name, imbalance in IMBALANCES.items()},
    "imagenet-lt": partial(_image_lists, "imagenet-lt", "ImageNet_LT"),
    "places-lt": partial(_image_lists, "places-lt", "Places_LT"),
    "folder": _folder,
}
