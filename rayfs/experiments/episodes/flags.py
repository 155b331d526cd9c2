"""Flags of the main job. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rayfs.errors import InputError
from rayfs.experiments.episodes.method_flags import METHOD_CATALOGUE
from rayfs.flags.flag import Shown, group, settings_of
from rayfs.flags.groups import BackboneFlags, DataFlags, ProtocolFlags, WorkerFlags
from rayfs.methods.recipe import RecipeName
from rayfs.methods.variants import parse_variants
from rayfs.value_checks import refuse_below


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Flags of `jobs/label_halluc_eval.py`."""

    data: DataFlags = group(DataFlags(), "Images")
    base_classes: tuple[str, ...] = ()
    """Only these base classes; default: all. Names of classes, superclasses or groups (animals, plants, people, things,
    scenes; alphabets of omniglot), or not:NAME for all but one. For far domains; needs --checkpoint."""
    novel_classes: tuple[str, ...] = ()
    """Only these classes of the split, named in the same way; default: all."""
    protocol: ProtocolFlags = group(ProtocolFlags(), "Episodes")
    episodes: int | None = None
    """How many episodes; default: 40 omniglot, 20 omniglot-one-shot, else 600."""
    manifest: Annotated[Path | None, Shown(value="FILE")] = None
    """Parquet file of the episodes' image ids: read if it exists, else written; default: none."""
    methods: Annotated[tuple[str, ...], Shown(title="Methods")] = ("logistic-regression", "label-halluc")
    """What to run on the same episodes. Each may have settings of its own:
    label-halluc:base-gradient=head,steps=100."""
    recipe: RecipeName = "released"
    """Defaults of the methods' settings: as released, or fast (100 steps behind two frozen blocks whose activations are
    kept)."""
    settings: Mapping[str, Any] = settings_of(METHOD_CATALOGUE)
    """Setting -> value of the settings given as flags, for every method that has such a setting."""
    backbone: BackboneFlags = group(BackboneFlags(), "Backbone")
    workers: WorkerFlags = group(WorkerFlags(), "Workers")
    out: Annotated[str | None, Shown(value="DIR", title="Output")] = None
    """Run directory: a path, or a URI such as s3://bucket/run. No default: needed but with --plan and --check."""
    episode_log: Annotated[Path | None, Shown(value="FILE")] = None
    """File to append one JSON line to for each finished episode and method; default: none."""
    plan: bool = False
    """Print what would run, its memory and its hours, and stop."""
    check: bool = False
    """Check flags, every image, the checkpoint and --out, and stop."""

    def __post_init__(self) -> None:
        refuse_below(self, 1, "episodes")
        parse_variants(self.methods)
        if self.out is None and not (self.plan or self.check):
            raise InputError(
                "--out is missing: name the run directory that the results go to, for example --out runs/a"
            )
