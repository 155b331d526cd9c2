"""A table of the paper as one command: what it needs is run or resumed, then set beside the published figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rayfs.backbones.packaged import FOLDER
from rayfs.datasets.image_table import cache_folder
from rayfs.distributed.session import refuse_lost_outputs
from rayfs.errors import InputError
from rayfs.experiments.episodes.experiment import Experiment
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.episodes.job import build_experiment, check_run, describe, execution_of, open_run
from rayfs.experiments.episodes.run import evaluate, wanted_rows
from rayfs.experiments.tables.flags import PaperTableConfig
from rayfs.flags.command_line import EXIT_FAILED, EXIT_OK
from rayfs.flags.groups import BackboneFlags, DataFlags, ProtocolFlags
from rayfs.reports.episodes.build import write_report
from rayfs.reports.paper_table import Ours, paper_cells
from rayfs.reports.published.registry import published_table
from rayfs.reports.published.table import PublishedRow, PublishedTable
from rayfs.reports.result_table import ResultTable
from rayfs.reports.table_exports import latex_table, markdown_table, text_table
from rayfs.runs.storage import Storage, explained, location_below
from rayfs.statistics.episodes_summary import EpisodesSummary

SUFFIXES = (".safetensors", ".pth")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One run of a table: an embedding and a number of shots."""

    embedding: str
    n_shot: int
    location: str
    experiment: Experiment


def run_paper_table(config: PaperTableConfig, command: list[str]) -> int:
    """Run what the table needs, print it, write it, and return the exit code.

    Raises:
        InputError: wrong input, before any episode runs; no embedding of the table is at hand.
    """
    refuse_lost_outputs({"--out": config.out})
    cache_dir, table = cache_folder(), published_table(config.table)
    parts = prepare_parts(config, table, cache_dir)
    summaries: dict[tuple[str, int], EpisodesSummary] = {}
    n_failed = 0
    execution = execution_of(config.workers)
    for part in parts:
        print(f"\n{part.embedding}, {part.n_shot}-shot\n{describe(part.experiment)}", flush=True)
        with open_run(part.experiment, part.location, command) as run:
            summaries[part.embedding, part.n_shot] = evaluate(
                part.experiment, run, execution, cache_dir=cache_dir, command=command
            )
            write_report(run, cache_dir)
            n_failed += sum(row.status == "failed" for row in wanted_rows(part.experiment, run))
    for n_shot in config.columns:
        write_column(config, table, n_shot, summaries)
    if n_failed:
        print(f"\n{n_failed} rows failed; they count in no figure. Rerun the command to try them again")
    return EXIT_FAILED if n_failed else EXIT_OK


def prepare_parts(config: PaperTableConfig, table: PublishedTable, cache_dir: Path) -> list[Part]:
    """Check everything that can be checked before the first episode of the first run.

    Raises:
        InputError: anything that cannot work.
    """
    found = find_embeddings(config, table.rows)
    if not found:
        wanted = list(dict.fromkeys(filter(None, (embedding_of(config, row) for row in table.rows))))
        where = f"the package or {config.checkpoints}" if config.checkpoints else "the package"
        raise InputError(
            f"table {config.table} needs embeddings of {config.backbone} on {config.benchmark} by {', '.join(wanted)}, "
            f"and none is in {where}; give --checkpoints DIR with {checkpoint_name(config, wanted[0])}.safetensors, or "
            "--embedding with one that is at hand"
        )
    parts = []
    for embedding, path in found.items():
        for n_shot in config.columns:
            experiment = build_experiment(eval_config(config, table, embedding, path, n_shot), cache_dir)
            location = run_location(config, table, embedding, n_shot)
            check_run(experiment, location)
            parts.append(Part(embedding=embedding, n_shot=n_shot, location=location, experiment=experiment))
    return parts


def find_embeddings(config: PaperTableConfig, rows: Sequence[PublishedRow]) -> dict[str, Path]:
    """Return the checkpoint of each embedding that the rows need and that is at hand."""
    wanted = dict.fromkeys(filter(None, (embedding_of(config, row) for row in rows)))
    found = {}
    for embedding in wanted:
        name = checkpoint_name(config, embedding)
        folders = [*filter(None, [config.checkpoints]), FOLDER]
        paths = [folder / f"{name}{suffix}" for folder in folders for suffix in SUFFIXES]
        if path := next((path for path in paths if path.exists()), None):
            found[embedding] = path
    return found


def embedding_of(config: PaperTableConfig, row: PublishedRow) -> str | None:
    """Return the embedding that a row of ours is run with; None for rows that are published only."""
    return None if row.method is None else config.embedding or row.embedding


def checkpoint_name(config: PaperTableConfig, embedding: str) -> str:
    """Return "conv4_cifar_fs_rfs_simple"."""
    return "_".join([config.backbone, config.benchmark, embedding]).replace("-", "_")


def run_location(config: PaperTableConfig, table: PublishedTable, embedding: str, n_shot: int) -> str:
    """Return the run directory of one embedding and number of shots, the same for all tables that need it."""
    way = "" if table.n_way == 5 else f"{table.n_way}way_"
    return location_below(config.out, f"{checkpoint_name(config, embedding)}_{way}{n_shot}shot")


def eval_config(
    config: PaperTableConfig, table: PublishedTable, embedding: str, checkpoint: Path, n_shot: int
) -> EvalConfig:
    """Return what the main job would be told for one embedding and number of shots."""
    methods = [row.method for row in table.rows if row.method and embedding_of(config, row) == embedding]
    baseline = [table.baseline] if table.baseline else []
    finetunes = any(method not in baseline for method in methods)
    names = ("steps", "head_init", "batch_norm", "precision") if finetunes else ()
    settings = {name: value for name in names if (value := getattr(config, name)) is not None}
    return EvalConfig(
        data=DataFlags(benchmark=config.benchmark, folder=config.data),
        protocol=ProtocolFlags(split=config.split, n_way=table.n_way, n_shot=n_shot, seed=config.seed),
        episodes=config.episodes, methods=tuple(dict.fromkeys([*baseline, *methods])), recipe=config.recipe,
        settings=settings, backbone=BackboneFlags(name=config.backbone, checkpoint=checkpoint), workers=config.workers,
        out=config.out,
    )  # fmt: skip


def write_column(
    config: PaperTableConfig, table: PublishedTable, n_shot: int, summaries: Mapping[tuple[str, int], EpisodesSummary]
) -> None:
    """Print one column of the table, and write it as text, Markdown and LaTeX below --out."""
    ours, absent = {}, {}
    for row in table.rows:
        embedding = embedding_of(config, row)
        if embedding is None or row.method is None:
            continue
        summary = summaries.get((embedding, n_shot))
        if summary is None:
            absent[row.label] = f"no {checkpoint_name(config, embedding)}"
        else:
            ours[row.label] = Ours(figures=summary.figures.methods[row.method], embedding=embedding)
    cells = paper_cells(table, ours, absent, benchmark=config.benchmark, n_shot=n_shot, backbone=config.backbone)
    cells = cells.noted(*own_notes(config, table))
    title = f"Table {config.table}: {table.title}; {config.benchmark}, {table.n_way}-way {n_shot}-shot"
    text = f"{title}\n\n{text_table(cells)}"
    print(f"\n{text}", end="")
    write_files(config, n_shot, title, text, cells)


def own_notes(config: PaperTableConfig, table: PublishedTable) -> list[str]:
    """Return what differs from the published experiment by the flags."""
    notes = []
    if config.steps is not None:
        notes.append(f"Ours took {config.steps} steps in every method that finetunes, not the released number.")
    if config.head_init is not None:
        notes.append(f"Ours started every head {config.head_init}.")
    if config.recipe != "released":
        notes.append(f"Ours finetuned by the recipe '{config.recipe}', not the released one.")
    if config.embedding is not None:
        notes.append(f"Ours are on the embedding {config.embedding}; the table's are named in its title and rows.")
    if config.split != "test":
        notes.append("Ours are validation classes; published figures are of test classes.")
    return notes


def write_files(config: PaperTableConfig, n_shot: int, title: str, text: str, cells: ResultTable) -> None:
    """Write the table beside its runs."""
    storage = Storage.at(config.out)
    name = f"table_{config.table}_{config.benchmark}_{n_shot}shot"
    with explained(f"write the table {storage.path(name)}"):
        storage.write(f"{name}.txt", text.encode())
        storage.write(f"{name}.md", f"{title}\n\n{markdown_table(cells)}".encode())
        storage.write(f"{name}.tex", latex_table(cells).encode())
    print(f"{storage.path(name)}.txt, .md, .tex")
