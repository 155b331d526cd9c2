"""Flags of `jobs/tune.py`. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rayfs.errors import InputError
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.tuning.long_tail_flags import COMPOSITIONAL, refuse_unused
from rayfs.methods import registry
from rayfs.methods.recipe import RecipeName, default_protocol
from rayfs.methods.search_spaces import Variants, chosen_spaces, held_settings
from rayfs.methods.spaces import Space
from rayfs.runs.race import Race

Tracker = Literal["tensorboard", "mlflow", "wandb"]


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Flags of `jobs/tune.py`; None means the default of the benchmark."""

    method: str = "label-halluc"
    """What is tuned: label-halluc, hard-label, feature-distill, support-only, assoalign, logistic-regression,
    nearest-prototype; or
    compositional: thresholds and τ of knowledge transfer on a long tail."""
    benchmark: str = "omniglot"
    """omniglot (embedded), cifar-fs, fc100, or folder (your own images)."""
    data: str | None = None
    """Folder of the images; without it $RAYFS_DATA/cifar100 for cifar-fs and fc100. folder: holds train/ val/ test/."""
    image_size: int | None = None
    """Pixels; default: the benchmark's own (28 omniglot, 32 CIFAR, 84 folder)."""
    split: Literal["validation", "test"] = "validation"
    """A search sees validation classes only; anything else is an error."""
    n_way: int | None = None
    """Classes an episode; default by benchmark."""
    n_shot: int | None = None
    """Support images a class; default by benchmark."""
    n_query: int | None = None
    """Query images a class; default by benchmark."""
    seed: int = 0
    """Root seed of the episodes, of all randomness in them, and of the trials that are drawn."""
    backbone: str = "conv4"
    """What the checkpoint is of; names as in `jobs/pretrain.py --help`."""
    checkpoint: Path | None = None
    """Weights of the backbone (.safetensors, .pth) or a name in the package; default: those of the package."""
    recipe: RecipeName = "released"
    """What trials start from: released or fast, as in jobs/label_halluc_eval.py."""
    precision: Literal["float32", "bf16"] | None = None
    """Of finetuning, in all trials; default float32."""
    hold: tuple[str, ...] = ()
    """Settings that all trials have, as in steps=50 base-gradient=head; names as in jobs/label_halluc_eval.py."""
    tune: tuple[str, ...] = ()
    """Settings to search, such as lr head-lr temperature; default by method (label-halluc: lambda-kl temperature steps
    lr head-lr). Also: support-views, base-fraction, weight-decay, momentum, lambda-ce, c, schedule, head-init,
    base-subset, related-classes, batch-norm, lambda-base, arc-scale, arc-margin, where the method has them."""
    space: tuple[str, ...] = ()
    """Other spaces than the method's own: lr=0.01:0.3:log, steps=50:200, schedule=constant,cosine."""
    search: Literal["random", "grid", "optuna"] = "random"
    """How trials are proposed. random: trial i of a seed is always the same, so that more trials continue fewer. optuna
    (TPE) learns from trials that ended; it needs `pip install 'rayfs[optuna]'`."""
    n_trials: int = 50
    """Trials beside trial 0, which is the recipe's own default; with compositional, settings."""
    grid_points: int = 3
    """grid: values of each range."""
    episodes: int = 72
    """Most episodes of a trial; all trials see the same ones in the same order."""
    grace: int = 8
    """Episodes before a trial may be stopped."""
    reduction: int = 3
    """At GRACE, GRACE x REDUCTION, ... episodes the best 1/REDUCTION of the trials so far go on (ASHA)."""
    block: int = 8
    """Episodes between two reports: what a kill may lose of a trial."""
    asha: bool = True
    """Stop losers early; --no-asha runs every trial to the end."""
    trials_at_once: int | None = None
    """Default: as many as the GPUs, else the CPUs, allow."""
    wait_for_nodes: float | None = None
    """Seconds to wait for nodes that have still to join, as in jobs/label_halluc_eval.py."""
    cpus_per_trial: int = 1
    """CPU cores, and threads, a trial."""
    gpus_per_trial: float | None = None
    """GPUs a trial, perhaps a fraction such as 0.25; default 1 where the cluster has GPUs, else 0."""
    final: bool = False
    """After the search, run the winner once on test classes beside the recipe's default and the baseline, in OUT/final.
    The directory then counts as used: another winner is refused."""
    final_episodes: int = 600
    """Test episodes of --final."""
    log_to: tuple[Tracker, ...] = ()
    """tensorboard, mlflow, wandb: also log every report there, where installed."""
    out: str
    """Run directory of the search: a path, or a URI such as s3://bucket/run."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", registry.canonical(self.method))
        known = (*registry.names(), COMPOSITIONAL)
        if self.method not in known:
            raise InputError(f"--method is '{self.method}'; expected one of {', '.join(known)}")
        if self.split != "validation":
            raise InputError(
                f"--split is '{self.split}', but a search never sees test classes: what is chosen on them cannot be "
                "reported on them; drop --split, and add --final to score the winner on them once"
            )
        for name in ("n_trials", "grid_points", "cpus_per_trial", "trials_at_once", "final_episodes"):
            value, least = getattr(self, name), 2 if name in ("grid_points", "final_episodes") else 1
            if value is not None and value < least:
                raise InputError(f"--{name.replace('_', '-')} is {value}; expected at least {least}")
        if self.gpus_per_trial is not None and self.gpus_per_trial < 0:
            raise InputError(f"--gpus-per-trial is {self.gpus_per_trial}; expected 0 or more")
        if self.wait_for_nodes is not None and not 0 <= self.wait_for_nodes < float("inf"):
            raise InputError(f"--wait-for-nodes is {self.wait_for_nodes}; expected seconds, 0 or more")
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}; expected 0 or more")
        if self.method == COMPOSITIONAL:
            refuse_unused(self)
            return
        both = sorted(self.held.keys() & self.spaces.keys())
        if both:
            flag = both[0].replace("_", "-")
            raise InputError(f"{flag} is held fixed and searched at once; leave it out of --hold or of --tune")
        assert self.race

    @property
    def execution(self) -> dict[str, Any]:
        """What the pools of baseline and final are told, as fields of `Execution`."""
        return {
            "workers": self.trials_at_once, "cpus_per_worker": self.cpus_per_trial,
            "gpus_per_worker": self.gpus_per_trial, "wait_for_nodes": self.wait_for_nodes,
        }  # fmt: skip

    @cached_property
    def spaces(self) -> dict[str, Space]:
        """Setting -> what is searched."""
        return chosen_spaces(self.method, self.tune, self.space)

    @cached_property
    def held(self) -> dict[str, Any]:
        """Setting -> value of all trials."""
        held = held_settings(self.method, self.hold)
        return held if self.precision is None else {**held, "precision": self.precision}

    @cached_property
    def race(self) -> Race:
        """When trials report, and when they may be stopped."""
        return Race(
            episodes=self.episodes, grace=self.grace, reduction=self.reduction, block=self.block, stopping=self.asha
        )

    @cached_property
    def variants(self) -> Variants:
        """How a trial's settings become a method."""
        protocol = default_protocol(self.benchmark)
        return Variants(
            method=self.method, benchmark=self.benchmark, n_way=self.n_way or protocol["n_way"],
            n_shot=self.n_shot or protocol["n_shot"], recipe=self.recipe, held=self.held,
        )  # fmt: skip

    def evaluation(
        self, *, methods: tuple[str, ...], split: Literal["validation", "test"], episodes: int
    ) -> EvalConfig:
        """Return what the main job would be told, with what is held fixed."""
        return EvalConfig(
            benchmark=self.benchmark, data=self.data, image_size=self.image_size, split=split, n_way=self.n_way,
            n_shot=self.n_shot, n_query=self.n_query, episodes=episodes, seed=self.seed, methods=methods,
            recipe=self.recipe, backbone=self.backbone, checkpoint=self.checkpoint, out=self.out, **self.held,
        )  # fmt: skip
