"""Flags of `jobs/long_tail_eval.py`. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

from dataclasses import dataclass
from typing import Annotated, Literal

from rayfs.errors import InputError
from rayfs.flags.flag import Shown, group
from rayfs.flags.groups import DataFlags, DeviceFlags, Split
from rayfs.long_tail.groups import Borders
from rayfs.long_tail.search_space import TransferSetting
from rayfs.long_tail.settings import FEW, MANY, TAU, TERMS, Attention
from rayfs.value_checks import refuse_below, refuse_unless_positive


@dataclass(frozen=True, kw_only=True)
class LongTailEvalConfig:
    """Flags of `jobs/long_tail_eval.py`; the defaults are those of compositional knowledge transfer."""

    data: DataFlags = group(
        DataFlags(benchmark="cifar100-lt"), "Images",
        benchmark="cifar100-lt (imbalance 100), cifar100-lt-50, cifar100-lt-10, imagenet-lt, places-lt.",
        data="Folder of the images; default: a folder of $RAYFS_DATA (cifar100 for cifar100-lt).",
        image_size="Pixels; default: the benchmark's own.",
    )  # fmt: skip
    split: Split = "test"
    """Images that are classified: validation to choose anything, test to report."""
    groups: Borders = "paper"
    """Borders of few, medium and many: paper (many ≥ 100, few ≤ 20 training images) or kang (many > 100, few < 20)."""
    backbone: Annotated[str, Shown(title="Backbone")] = "resnet32"
    """Network of the checkpoints; names: jobs/pretrain.py --help."""
    checkpoint: Annotated[tuple[str, ...], Shown(value="FILE ...")] = ()
    """Backbones with their cosine head (jobs/pretrain.py --objective cosine; .safetensors, .pth, or a name in the
    package). Several are repeats, trained with other seeds: means and intervals over them. One that was trained without
    some classes (jobs/pretrain.py --base-classes not:few) recognises these by prototypes and w^hc(k), though it has
    not seen them. Default: the package's."""
    k: Annotated[tuple[int, ...], Shown(title="Classifiers")] = (0, FEW, MANY)
    """Thresholds: w^h(k) learns from classes with more than k training images; the ensemble has all of them (paper: 0,
    20, 100)."""
    tau: float = TAU
    """Sharpness of the transfer (paper: 10)."""
    attention: Attention = "p-w"
    """What asks, and what is asked: p prototypes, w classifier weights (paper: p-w; the others are its table 6)."""
    own_neighbour: bool = True
    """A class with more than k images is among its own neighbours, as equation 6 has it."""
    continual: bool = False
    """The members of the ensemble are w^hc(k), without the weights of the class itself, in place of w^h(k)."""
    scale: float | None = None
    """Factor of the cosines in every softmax, which decides how an ensemble weighs its members; default: the trained
    head's."""
    continual_prototypes: bool = True
    """The continual ensemble has the prototypes, too, as in table 2; table 9 leaves them out."""
    prototype_views: int = 0
    """Augmented views of each training image that prototypes are means of; 0: the images themselves."""
    search: Annotated[int, Shown(title="Search")] = 0
    """Settings (sets of k, τ, terms) to try on validation images first; the best is evaluated as 'tuned ensemble'."""
    objective: Literal["all", "few", "medium", "many", "groups"] = "all"
    """What --search maximises: mean accuracy over all classes, those of a group, or the mean of the three groups."""
    resamples: Annotated[int, Shown(title="Intervals")] = 2000
    """Of the bootstrap."""
    seed: int = 0
    """Of the bootstrap, the search and the views."""
    compute: DeviceFlags = group(DeviceFlags(), "Machine")
    out: Annotated[str | None, Shown(value="DIR", title="Output")] = None
    """Folder or URI (s3://bucket/run) for rows, tables, summary.json and report.html; default: only print."""

    @property
    def setting(self) -> TransferSetting:
        """The ensemble."""
        return TransferSetting(
            thresholds=self.k, tau=self.tau, terms=TERMS[:2] if self.continual else TERMS, attention=self.attention,
            own_neighbour=self.own_neighbour,
        )  # fmt: skip

    def __post_init__(self) -> None:
        refuse_below(self, 2, "resamples")
        refuse_below(self, 0, "seed", "search", "prototype_views")
        if not self.k or len(set(self.k)) < len(self.k) or min(self.k) < 0:
            raise InputError(f"--k is '{' '.join(map(str, self.k))}'; expected one or more of at least 0, each once")
        if not 0 <= self.tau < float("inf"):
            raise InputError(f"--tau is {self.tau}; expected 0 or a positive number")
        refuse_unless_positive(self, "scale")
        if len(set(self.checkpoint)) < len(self.checkpoint):
            raise InputError(f"--checkpoint is '{' '.join(self.checkpoint)}'; expected each once")
        if self.search and self.split == "validation":
            raise InputError("--search chooses on validation images; evaluate it on --split test")
