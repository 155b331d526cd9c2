"""One pretraining run: tables in, the best epoch's checkpoint and its sidecar out."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

import rayfs
from rayfs.backbones.checkpoint_files import SAFETENSORS_SUFFIX, write_failures_explained
from rayfs.backbones.checkpoints import save_checkpoint
from rayfs.backbones.registry import create_backbone, n_parameters
from rayfs.benchmarks.registry import Benchmark, open_benchmark
from rayfs.benchmarks.tables import cache_folder, load_table
from rayfs.engine.process import configure_process
from rayfs.engine.progress import WorkProgress
from rayfs.errors import InputError
from rayfs.pretraining.config import PretrainConfig
from rayfs.pretraining.train import EpochReport, Trainer, validate
from rayfs.pretraining.validation import validation_protocol
from rayfs.randomness import torch_generator


def run_pretraining(
    *,
    benchmark: str,
    data: str | None,
    image_size: int | None,
    backbone: str,
    out: Path,
    device: str,
    threads: int,
    config: PretrainConfig,
    command: Sequence[str],
) -> None:
    """Train `backbone` on the base classes and keep, at `out`, the epoch that is best on validation classes.

    Ties go to the earlier epoch. The sidecar beside `out` holds the command, the configuration, the learning curve up
    to the epoch that was kept and the versions. Prints progress. Test classes are never opened.

    Raises:
        InputError: wrong names or data; before the first step.
    """
    if threads < 0:
        raise InputError(f"--threads is {threads}; expected 0 (all cores) or more")
    opened = open_benchmark(benchmark, data, image_size)
    chosen = pick_device(device)
    configure_process(threads or torch.get_num_threads())
    generator = torch_generator(config.seed, "backbone")
    module = create_backbone(backbone, opened.channels, opened.image_size, generator)
    _make_folder(out)
    cache = cache_folder()
    tables = [
        load_table(opened.source(split, cache), cache, channels=opened.channels, image_size=opened.image_size)
        for split in ("base", "validation")
    ]
    validation_protocol(config, tables[1])  # refuses what does not fit now, not after the first epoch
    print(
        f"{backbone} ({n_parameters(module):,} parameters) on {opened.name}: {len(tables[0]):,} base images of "
        f"{len(tables[0].class_names)} classes, {len(tables[1].class_names)} validation classes, {chosen}"
    )
    trainer = Trainer(module, opened, tables[0], config, chosen)
    progress = WorkProgress("training", "steps", config.epochs * trainer.steps_per_epoch)
    curve: list[EpochReport] = []
    for epoch in range(1, config.epochs + 1):
        started = time.monotonic()
        loss, train_accuracy = trainer.train_epoch(epoch, progress.add)
        trainer.backbone.eval()
        accuracies = validate(trainer.backbone, opened, tables[1], config, chosen)
        curve.append(_report(epoch, loss, train_accuracy, accuracies, time.monotonic() - started))
        best = max(curve, key=lambda report: report.validation_accuracy)
        if best is curve[-1]:
            save_checkpoint(out, trainer.backbone, _sidecar(backbone, opened, config, curve, command))
        print(_line(curve[-1], config, progress, kept=best is curve[-1]), flush=True)
    print(f"kept epoch {best.epoch}: {100 * best.validation_accuracy:.2f} on validation classes, {out}")


def pick_device(name: str) -> torch.device:
    """Turn 'auto', 'cpu' or 'cuda' into a device; 'auto' takes a GPU where there is one."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device is '{name}'; expected auto, cpu or cuda")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("--device is 'cuda' but torch finds no GPU here; use --device cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def _make_folder(out: Path) -> None:
    """Make the folder of `out`, refusing another ending and a place that cannot be written."""
    if out.suffix != SAFETENSORS_SUFFIX:
        raise InputError(f"--out is '{out}'; expected a file name that ends in {SAFETENSORS_SUFFIX}")
    with write_failures_explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)


def _report(epoch: int, loss: float, train: float, accuracies: np.ndarray, seconds: float) -> EpochReport:
    half_width = 1.96 * accuracies.std(ddof=1) / len(accuracies) ** 0.5
    return EpochReport(
        epoch=epoch, loss=loss, train_accuracy=train, validation_accuracy=float(accuracies.mean()),
        validation_half_width=float(half_width), seconds=seconds,
    )  # fmt: skip


def _line(report: EpochReport, config: PretrainConfig, progress: WorkProgress, kept: bool) -> str:
    return (
        f"epoch {report.epoch}/{config.epochs} | loss {report.loss:.3f} | base {100 * report.train_accuracy:.1f} | "
        f"validation {config.validation_n_way}-way {config.validation_n_shot}-shot "
        f"{100 * report.validation_accuracy:.2f} ± {100 * report.validation_half_width:.2f}"
        f"{' (best so far, saved)' if kept else ''} | {report.seconds:.0f} s | {progress.line()}"
    )


def _sidecar(
    backbone: str, benchmark: Benchmark, config: PretrainConfig, curve: list[EpochReport], command: Sequence[str]
) -> dict:
    return {
        "backbone": backbone,
        "benchmark": benchmark.name,
        "channels": benchmark.channels,
        "image_size": benchmark.image_size,
        "training": asdict(config),
        "command": shlex.join(["python", *command]),
        "curve": [asdict(report) for report in curve],
        "versions": {"rayfs": rayfs.__version__, "torch": torch.__version__, "python": sys.version.split()[0]},
        "date": datetime.now(UTC).date().isoformat(),
    }
