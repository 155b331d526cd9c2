"""Flags of `jobs/evaluate_embedding.py`. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rayfs.errors import InputError
from rayfs.methods.classifiers import registry


@dataclass(frozen=True, kw_only=True)
class EmbeddingEvalConfig:
    """Flags of `jobs/evaluate_embedding.py`; the defaults are the evaluation of RFS, over more episodes."""

    benchmark: str = "omniglot"
    """omniglot, omniglot-one-shot (both embedded), cifar-fs, fc100, or folder (your own images)."""
    data: str | None = None
    """Folder of the images; without it $RAYFS_DATA/cifar100 for cifar-fs and fc100. folder: holds train/ val/ test/."""
    image_size: int | None = None
    """Pixels; default: the benchmark's own (28 omniglot, 32 CIFAR, 84 folder)."""
    split: Literal["validation", "test"] = "test"
    """Classes the episodes come from: validation to choose anything, test to report."""
    n_way: int = 5
    """Classes an episode."""
    n_shot: tuple[int, ...] = (1, 5)
    """Support images a class; a table for each."""
    n_query: int = 15
    """Query images a class."""
    episodes: int = 2000
    """How many distinct episodes (papers: 600; ours: more)."""
    seed: int = 0
    """Root seed of the episodes."""
    backbone: str = "conv4"
    """What the checkpoint is of; names as in `jobs/pretrain.py --help`."""
    checkpoint: Path | None = None
    """Weights of the backbone (.safetensors, .pth) or a name in the package; default: those of the package that fit and
    are best on validation classes."""
    classifiers: tuple[str, ...] = registry.names()
    """What to run on the same episodes: logistic-regression (the baseline of the gains), nearest-neighbour
    (Euclidean), prototype (nearest class mean, Euclidean), cosine (to the class means), svm (linear, scikit-learn)."""
    support_views: int = 5
    """Augmented views of each support image that classifiers are fitted to (RFS: 5); 0: the image itself."""
    support_jitter: bool = True
    """Colour jitter in those views (RFS, Label Hallucination); SKD and IER evaluate without."""
    view_seed: int = 0
    """Root seed of those views."""
    c: float = 1.0
    """Weight of the loss of logistic-regression against its penalty (RFS)."""
    svm_c: float = 1.0
    """The same of svm."""
    normalize: bool = True
    """Features of unit length (RFS)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where features and classifiers are computed; auto: a GPU where torch finds one."""
    threads: int = 1
    """CPU threads of the classifiers. More help on an idle machine only: on a busy one each waits for the others (two
    threads on two busy cores took ten times as long as one)."""
    out: str | None = None
    """Folder or URI (s3://bucket/run) of the run directories, OUT/5-shot for each --n-shot; default: only print."""

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("threads", 1), ("seed", 0), ("support_views", 0), ("view_seed", 0)):
            if getattr(self, name) < least:
                expected = "0 or more" if least == 0 else "at least 1"
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected {expected}")
        for name in ("c", "svm_c"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected a positive number")
        if not self.n_shot or len(set(self.n_shot)) < len(self.n_shot):
            raise InputError(f"--n-shot is '{' '.join(map(str, self.n_shot))}'; expected one or more, each once")
        registry.chosen(self.classifiers)
