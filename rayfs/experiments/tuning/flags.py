"""Flags of `jobs/tune.py`. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

from rayfs.errors import InputError
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.episodes.method_flags import METHOD_CATALOGUE
from rayfs.experiments.tuning.long_tail_flags import COMPOSITIONAL, UNUSED, refuse_unused
from rayfs.flags.flag import Shown, flags_of, group, settings_of
from rayfs.flags.groups import BackboneFlags, DataFlags, ProtocolFlags, Split, refuse_waiting
from rayfs.flags.parsing import flag_values
from rayfs.methods import registry
from rayfs.methods.recipe import RecipeName, default_protocol
from rayfs.methods.search_spaces import Variants, chosen_spaces, held_settings
from rayfs.methods.spaces import Space
from rayfs.runs.race import Race
from rayfs.value_checks import flag_of, refuse_below

Tracker = Literal["tensorboard", "mlflow", "wandb"]


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Flags of `jobs/tune.py`."""

    method: Annotated[str, Shown(title="Method")] = "label-halluc"
    """What is tuned: a method, or compositional (knowledge transfer on a long tail)."""
    recipe: RecipeName = "released"
    """What trials start from."""
    hold: Annotated[tuple[str, ...], Shown(value="S=V ...")] = ()
    """Settings of all trials, as in steps=50, which is the same as --steps 50; default: the recipe's."""
    settings: Mapping[str, Any] = settings_of(replace(METHOD_CATALOGUE, is_brief=True))
    """Setting -> value of the settings given as flags: all trials have them."""
    tune: Annotated[tuple[str, ...], Shown(title="Search")] = ()
    """Settings to search, as in lr head-lr; default: those that the method names."""
    space: Annotated[tuple[str, ...], Shown(value="SPACE ...")] = ()
    """Other spaces than the default, the method's own: lr=0.01:0.3:log steps=50:200 schedule=constant,cosine."""
    search: Literal["random", "grid", "optuna"] = "random"
    """random (trial i of a seed is always the same), grid, or optuna (TPE, which learns from trials that ended; `pip
    install 'rayfs[optuna]'`)."""
    n_trials: int = 50
    """Trials beside trial 0, the recipe's own default; with compositional, settings."""
    grid_points: int = 3
    """grid: values of each range."""
    data: DataFlags = group(
        DataFlags(), "Images",
        benchmark="omniglot (in the package), cifar-fs, fc100, or folder (your own images); compositional: cifar100-lt "
        "or another long tail.",
    )  # fmt: skip
    protocol: ProtocolFlags = group(
        ProtocolFlags(split="validation"), "Episodes",
        split="A search sees validation classes only.",
        seed="Root seed of the episodes, of the trials, and of all randomness in them.",
    )  # fmt: skip
    episodes: int = 72
    """Most episodes of a trial; all trials have the same ones."""
    grace: Annotated[int, Shown(title="Stopping losers early")] = 8
    """Episodes before a trial may be stopped."""
    reduction: int = 3
    """At GRACE, GRACE x REDUCTION, ... episodes the best 1/REDUCTION of the trials so far go on (ASHA)."""
    block: int = 8
    """Episodes between two reports: a kill may lose so many."""
    asha: bool = True
    """Stop losers early."""
    backbone: BackboneFlags = group(BackboneFlags(), "Backbone")
    trials_at_once: Annotated[int | None, Shown(title="Cluster")] = None
    """Default: as many as the GPUs, else the CPUs, allow."""
    cpus_per_trial: int = 1
    """CPU cores, and threads, a trial."""
    gpus_per_trial: float | None = None
    """GPUs a trial, or a fraction; default: 1 where the cluster has GPUs, else 0."""
    wait_for_nodes: Annotated[float | None, Shown(value="S")] = None
    """Seconds to wait for nodes to join; default as in jobs/label_halluc_eval.py."""
    out: Annotated[str, Shown(value="DIR", title="Output")]
    """Run directory of the search: a path, or a URI such as s3://bucket/run."""
    final: bool = False
    """Then run the winner once on test classes, in OUT/final, beside the recipe's default and the baseline. Another
    winner is refused there."""
    final_episodes: int = 600
    """Test episodes of --final."""
    log_to: tuple[Tracker, ...] = ()
    """Also log every report there, where installed; default: nowhere."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", registry.canonical(self.method))
        known = (*registry.names(), COMPOSITIONAL)
        if self.method not in known:
            raise InputError(f"--method is '{self.method}'; expected one of {', '.join(known)}")
        if self.protocol.split != "validation":
            raise InputError(
                f"--split is '{self.protocol.split}', but a search never sees test classes: what is chosen "
                "on them cannot be reported on them; drop --split, and add --final to score the winner on them once"
            )
        refuse_below(self, 1, "n_trials", "cpus_per_trial", "trials_at_once")
        refuse_below(self, 2, "grid_points", "final_episodes")
        refuse_below(self, 0, "gpus_per_trial")
        refuse_waiting(self.wait_for_nodes)
        if self.method == COMPOSITIONAL:
            defaults, values = {flag.name: flag.default for flag in flags_of(type(self))}, flag_values(self)
            given = [name for name in UNUSED if values[name] != defaults[name]]
            refuse_unused([*given, *self.settings], self.space)
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
        for name, value in self.settings.items():
            if held.get(name, value) != value:
                raise InputError(f"{flag_of(name)} is {value} but --hold says {held[name]}; give one of the two")
        return {**held, **self.settings}

    @cached_property
    def race(self) -> Race:
        """When trials report, and when they may be stopped."""
        return Race(
            episodes=self.episodes, grace=self.grace, reduction=self.reduction, block=self.block, stopping=self.asha
        )

    @cached_property
    def variants(self) -> Variants:
        """How a trial's settings become a method."""
        usual, asked = default_protocol(self.data.benchmark), self.protocol
        return Variants(
            method=self.method, benchmark=self.data.benchmark, n_way=asked.n_way or usual["n_way"],
            n_shot=asked.n_shot or usual["n_shot"], recipe=self.recipe, held=self.held,
        )  # fmt: skip

    def evaluation(self, *, methods: tuple[str, ...], split: Split, episodes: int) -> EvalConfig:
        """Return what the main job would be told, with what is held fixed."""
        return EvalConfig(
            data=self.data, protocol=replace(self.protocol, split=split), episodes=episodes, methods=methods,
            recipe=self.recipe, settings=self.held, backbone=self.backbone, out=self.out,
        )  # fmt: skip
