"""Flags of `jobs/paper_table.py`. No torch and no Ray here, so that `--help` and wrong flags answer at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rayfs.errors import InputError
from rayfs.flags.flag import Shown, group
from rayfs.flags.groups import Split, WorkerFlags
from rayfs.methods.recipe import RecipeName
from rayfs.reports.published.registry import published_table


@dataclass(frozen=True, kw_only=True)
class PaperTableConfig:
    """Flags of `jobs/paper_table.py`."""

    table: Annotated[str, Shown(value="TABLE", title="Table")]
    """Table of the Label Hallucination paper: 2 (all methods), 3 (what to do with the base set), 4 (which part gets
    gradients), 5 (six embeddings), 6 (associative alignment); 10-way, 20-way (README of the released code)."""
    benchmark: Annotated[Literal["cifar-fs", "fc100"], Shown(title="What it is run on")] = "cifar-fs"
    """Images."""
    n_shot: tuple[int, ...] = ()
    """Columns to run; default: all that the table has."""
    episodes: int = 600
    """Of each column; more continue a table that was run before."""
    data: Annotated[str | None, Shown(value="DIR")] = None
    """Folder of the images; default: $RAYFS_DATA/cifar100."""
    split: Split = "test"
    """Classes the episodes come from; published figures are of test classes."""
    seed: int = 0
    """Root seed of the episodes and of all randomness in them."""
    backbone: Annotated[str, Shown(title="Backbone")] = "conv4"
    """Published tables have resnet12."""
    checkpoints: Annotated[Path | None, Shown(value="DIR")] = None
    """Folder of embeddings called BACKBONE_BENCHMARK_EMBEDDING.safetensors (or .pth), such as
    resnet12_cifar_fs_skd_gen1.pth; default: those in the package, which are found beside them, too."""
    embedding: str | None = None
    """Use this embedding (rfs-simple, rfs-distill, skd-gen0, ...) for all rows that the project runs; default: that of
    the table."""
    recipe: Annotated[RecipeName, Shown(title="Settings of the methods")] = "released"
    """Settings of the finetuning methods: as released, or fast (100 steps behind two frozen blocks)."""
    steps: int | None = None
    """SGD steps of every finetuning method; default: the recipe's. Fewer is another experiment than the published one,
    and the table says so."""
    head_init: Literal["random", "logistic-regression"] | None = None
    """Start of the head in every finetuning method; default: the recipe's (random, as released)."""
    batch_norm: Literal["joint", "split"] | None = None
    """Batch statistics over base and support together or apart; default: joint."""
    precision: Literal["float32", "bf16"] | None = None
    """Of finetuning; default: float32. bf16 pays on GPUs and on CPUs with AMX."""
    workers: WorkerFlags = group(WorkerFlags(), "Workers")
    out: Annotated[str, Shown(value="DIR", title="Output")]
    """Folder of the runs, one for each embedding and number of shots, and of the table. Tables of one folder share
    rows: what table 3 ran, table 4 does not run again."""

    def __post_init__(self) -> None:
        table = published_table(self.table)
        if self.episodes < 2:
            raise InputError(f"--episodes is {self.episodes}; a paired interval needs at least 2")
        known = self.columns_of_table
        wrong = [shot for shot in self.n_shot if shot not in known]
        if wrong:
            raise InputError(
                f"--n-shot is {wrong[0]} but table {self.table} ({table.title}) has {' and '.join(map(str, known))}"
            )

    @property
    def columns_of_table(self) -> tuple[int, ...]:
        """The numbers of shots that the table has; those of another benchmark where it has none of this one."""
        table = published_table(self.table)
        columns = next(filter(None, map(table.columns, (self.benchmark, *table.benchmarks))))
        return tuple(column for column in columns if isinstance(column, int))

    @property
    def columns(self) -> tuple[int, ...]:
        """The numbers of shots to run."""
        return tuple(dict.fromkeys(self.n_shot)) or self.columns_of_table
