"""Flags of the main job. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rayfs.errors import InputError
from rayfs.methods.recipe import RecipeName
from rayfs.methods.variants import parse_variants


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Flags of `jobs/label_halluc_eval.py`; None means the default of the benchmark."""

    benchmark: str = "omniglot"
    """omniglot, omniglot-one-shot (both embedded), cifar-fs, fc100, or folder (your own images)."""
    data: str | None = None
    """Folder of the images; without it $RAYFS_DATA/cifar100 for cifar-fs and fc100. folder: holds train/ val/ test/."""
    image_size: int | None = None
    """Pixels; default: the benchmark's own (28 omniglot, 32 CIFAR, 84 folder)."""
    split: Literal["validation", "test"] = "test"
    """Classes the episodes come from: validation to choose anything, test to report."""
    base_classes: tuple[str, ...] = ()
    """Only these base classes: names of classes, superclasses or groups (animals, plants, people, things, scenes;
    alphabets of omniglot), or all but not:NAME. For far domains; needs --checkpoint."""
    novel_classes: tuple[str, ...] = ()
    """Only these classes of the split, named in the same way."""
    n_way: int | None = None
    """Classes an episode; default by benchmark (10 omniglot, 20 omniglot-one-shot, else 5)."""
    n_shot: int | None = None
    """Support images a class; default by benchmark (1 omniglot, else 5)."""
    n_query: int | None = None
    """Query images a class; default 15 (1 for omniglot-one-shot)."""
    episodes: int | None = None
    """How many episodes; default by benchmark (40 omniglot, 20 omniglot-one-shot, else 600)."""
    seed: int = 0
    """Root seed of the episodes and of all randomness in them."""
    methods: tuple[str, ...] = ("logistic-regression", "label-halluc")
    """What to run on the same episodes: logistic-regression (frozen backbone, the baseline), nearest-prototype,
    support-only, hard-label, label-halluc, assoalign, feature-distill; each also with settings of its own, as in
    label-halluc:base-gradient=head,steps=100. Flags below apply to every method that has such a setting."""
    recipe: RecipeName = "released"
    """Defaults of the settings below: as released, or fast (100 steps behind two frozen blocks whose activations are
    kept; for backbones that are a chain of blocks)."""
    backbone: str = "conv4"
    """What the checkpoint is of; names as in `jobs/pretrain.py --help`."""
    checkpoint: Path | None = None
    """Weights of the backbone (.safetensors, .pth) or a name in the package; default: those of the package that fit and
    are best on validation classes."""
    steps: int | None = None
    """SGD steps an episode; default: the released recipe of the method, benchmark, ways and shots (40 omniglot)."""
    temperature: float | None = None
    """label-halluc: T of the distillation; default 4."""
    lambda_kl: float | None = None
    """label-halluc: weight of the distillation on base images; default 1."""
    lambda_base: float | None = None
    """hard-label, feature-distill: weight of the loss on base images; default 1."""
    lambda_ce: float | None = None
    """Weight of the cross-entropy on support images; default 1."""
    lr: float | None = None
    """Learning rate of the backbone; default 0.025 (0.1 omniglot)."""
    head_lr: float | None = None
    """Learning rate of the head; default 0.05."""
    schedule: Literal["constant", "linear", "cosine"] | None = None
    """How learning rates fall to 0 over the steps; default constant."""
    early_stop: int | None = None
    """Stop when the mean training loss of this many steps is not below that of as many before; default 0, never."""
    weight_decay: float | None = None
    """L2 penalty; default 5e-4."""
    momentum: float | None = None
    """Of SGD; default 0.9."""
    base_batch: int | None = None
    """Base images a step; default: as many as support views in a step."""
    support_views: int | None = None
    """Augmented views of each support image that classifiers are fitted to; default 25 for 1-shot, 5 for 5-shot, 1 from
    10-shot on."""
    step_views: int | None = None
    """Augmented views of each support image in a finetuning step; default as --support-views (5 omniglot)."""
    support_batch: int | None = None
    """Support views in a step, drawn at random; default all."""
    base_gradient: Literal["none", "head", "backbone", "both"] | None = None
    """label-halluc: what the loss on base images trains; default both. none: they join the batch statistics alone."""
    base_subset: Literal["all", "related"] | None = None
    """All base images, or those that the support's classifier finds related to the episode; default all."""
    related_classes: int | None = None
    """Base classes related to each class of an episode; default 10."""
    base_fraction: float | None = None
    """Share of each base class's images that is used; default 1."""
    base_imbalance: Literal["none", "step", "exponential"] | None = None
    """How the sizes of the base classes fall, with --imbalance-ratio; default none."""
    imbalance_ratio: float | None = None
    """Images of the largest base class over those of the smallest."""
    classifier_loss: Literal["softmax", "arcmax"] | None = None
    """assoalign: a linear head, or cosines with a margin; default softmax."""
    centroid_alignment: Literal["on", "off"] | None = None
    """assoalign: pull related base images to the centroids of the support; default on."""
    arc_scale: float | None = None
    """assoalign with arcmax: s; default 15."""
    arc_margin: float | None = None
    """assoalign with arcmax: m, in radians; default 0.001."""
    c: float | None = None
    """Inverse penalty of the logistic regression, also of logistic-regression; default 1."""
    frozen_blocks: int | None = None
    """Blocks of the backbone, from its input on, that are not finetuned; default 0."""
    frozen_views: int | None = None
    """With --frozen-blocks: keep the activations of so many views of each image behind those blocks, instead of
    computing new views in every step; default 0, new views."""
    first_conv: Literal["frozen", "trained"] | None = None
    """The first convolution while finetuning; default frozen, as the released optimiser leaves it."""
    head_init: Literal["random", "logistic-regression"] | None = None
    """Start of the head; default random, as released (logistic-regression omniglot)."""
    batch_norm: Literal["joint", "split"] | None = None
    """Batch statistics over base and support together or apart; default joint."""
    pseudo_label_view: Literal["plain", "augmented"] | None = None
    """What the teacher sees of a base image; default plain."""
    dropout: Literal["on", "off"] | None = None
    """The backbone's dropout and DropBlock while finetuning; default on."""
    normalize: Literal["on", "off"] | None = None
    """Features of unit length under the finetuned head; default on."""
    joint_queries: int | None = None
    """Recognise so many base images an episode, too, among the classes of the episode and the base at once, and print
    both accuracies and their harmonic mean; default 0."""
    precision: Literal["float32", "bf16"] | None = None
    """Of finetuning; default float32. bf16 pays on GPUs and on CPUs with AMX; on others it is many times slower."""
    execution: Literal["eager", "graph", "compiled", "compiled-graph"] | None = None
    """How finetuning steps run: eager (default), op by op; graph, captured once an episode and replayed (GPUs alone);
    compiled, by TorchInductor, once a worker; or both."""
    workers: int | None = None
    """Actors; default: as many as the GPUs, else the CPUs, allow."""
    gpus_per_worker: float | None = None
    """GPUs an actor; default 1 where the cluster has GPUs, else 0."""
    cpus_per_worker: int = 1
    """CPU cores, and threads, an actor."""
    wait_for_nodes: float | None = None
    """Seconds to wait for nodes that have still to join, where --workers (one, without it) do not fit the cluster yet;
    autoscalers see what is missing. Default: 600 on a cluster without any CPU and GPU, else 0, refuse at once."""
    episode_timeout: float | None = None
    """Seconds after which an episode (all its methods) is taken for hung: its worker is killed, and the episode tried
    again; default 20 times the longest so far, at least 10 minutes."""
    episode_log: Path | None = None
    """File that one JSON line for each episode and method is appended to as it finishes."""
    out: str | None = None
    """Run directory: a path, or a URI such as s3://bucket/run. Required, except with --plan and --check."""
    manifest: Path | None = None
    """Parquet file of the episodes' row ids: read if it exists, else written."""
    plan: bool = False
    """Print what would run, its memory and its hours, and stop."""
    check: bool = False
    """Check flags, every image, the checkpoint and --out, and stop."""

    def __post_init__(self) -> None:
        for name in ("episodes", "cpus_per_worker", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is {value}; expected at least 1")
        if self.gpus_per_worker is not None and self.gpus_per_worker < 0:
            raise InputError(f"--gpus-per-worker is {self.gpus_per_worker}; expected 0 or more")
        if self.wait_for_nodes is not None and not 0 <= self.wait_for_nodes < float("inf"):
            raise InputError(f"--wait-for-nodes is {self.wait_for_nodes}; expected seconds, 0 or more")
        if self.episode_timeout is not None and not self.episode_timeout > 0:
            raise InputError(f"--episode-timeout is {self.episode_timeout}; expected seconds above 0")
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}; expected 0 or more")
        parse_variants(self.methods)
        if self.out is None and not (self.plan or self.check):
            raise InputError(
                "--out is missing: name the run directory that the results go to, for example --out runs/a"
            )
