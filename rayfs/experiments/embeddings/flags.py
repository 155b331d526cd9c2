"""Flags of `jobs/evaluate_embedding.py`. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

from dataclasses import dataclass
from typing import Annotated

from rayfs.errors import InputError
from rayfs.flags.flag import Shown, group
from rayfs.flags.groups import BackboneFlags, DataFlags, DeviceFlags, Split
from rayfs.methods.classifiers import registry
from rayfs.value_checks import refuse_below, refuse_unless_positive


@dataclass(frozen=True, kw_only=True)
class EmbeddingEvalConfig:
    """Flags of `jobs/evaluate_embedding.py`; the defaults are the evaluation of RFS, over more episodes."""

    data: DataFlags = group(DataFlags(), "Images")
    split: Annotated[Split, Shown(title="Episodes")] = "test"
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
    backbone: BackboneFlags = group(BackboneFlags(), "Backbone")
    classifiers: Annotated[tuple[str, ...], Shown(title="Classifiers")] = registry.names()
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
    compute: DeviceFlags = group(
        DeviceFlags(), "Machine",
        device="Where features and classifiers are computed; auto: a GPU where torch finds one.",
        threads="CPU threads of the classifiers. More help on an idle machine only: on a busy one each waits for the "
        "others (two threads on two busy cores took ten times as long as one).",
    )  # fmt: skip
    out: Annotated[str | None, Shown(value="DIR", title="Output")] = None
    """Folder or URI (s3://bucket/run) of the run directories, OUT/5-shot for each --n-shot; default: only print."""

    def __post_init__(self) -> None:
        refuse_below(self, 1, "episodes")
        refuse_below(self, 0, "seed", "support_views", "view_seed")
        refuse_unless_positive(self, "c", "svm_c")
        if not self.n_shot or len(set(self.n_shot)) < len(self.n_shot):
            raise InputError(f"--n-shot is '{' '.join(map(str, self.n_shot))}'; expected one or more, each once")
        registry.chosen(self.classifiers)
