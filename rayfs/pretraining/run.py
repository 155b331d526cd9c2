"""One pretraining run: tables in, the best epoch's checkpoint and its sidecar out."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

import rayfs
from rayfs.backbones.checkpoints import save_checkpoint
from rayfs.backbones.registry import create_backbone, n_parameters
from rayfs.benchmarks.registry import Benchmark, open_benchmark
from rayfs.benchmarks.tables import cache_folder, load_table
from rayfs.engine.process import configure_process
from rayfs.errors import InputError
from rayfs.pretraining.config import PretrainConfig
from rayfs.pretraining.train import EpochReport, Trainer, validate
from rayfs.randomness import torch_generator

PRINT_EVERY_S = 10.0


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

    Ties go to the earlier epoch. The sidecar beside `out` holds the command, the configuration, the learning curve and
    the versions. Prints progress.

    Raises:
        InputError: wrong names or data; before the first step.
    """
    opened = open_benchmark(benchmark, data, image_size)
    chosen = pick_device(device)
    configure_process(threads or torch.get_num_threads())
    generator = torch_generator(config.seed, "backbone")
    module = create_backbone(backbone, opened.channels, opened.image_size, generator)
    out.parent.mkdir(parents=True, exist_ok=True)
    cache = cache_folder()
    tables = [
        load_table(opened.source(split, cache), cache, channels=opened.channels, image_size=opened.image_size)
        for split in ("base", "validation")
    ]
    print(
        f"{backbone} ({n_parameters(module):,} parameters) on {opened.name}: {len(tables[0]):,} base images of "
        f"{len(tables[0].class_names)} classes, {len(tables[1].class_names)} validation classes, {chosen}"
    )
    trainer = Trainer(module, opened, tables[0], config, chosen)
    progress = StepProgress(config.epochs * trainer.steps_per_epoch)
    curve: list[EpochReport] = []
    for epoch in range(1, config.epochs + 1):
        started = time.monotonic()
        loss, train_accuracy = trainer.train_epoch(epoch, progress.step)
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


class StepProgress:
    """Steps done, rate and time left; a line every ten seconds."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._started = self._printed = time.monotonic()

    def step(self) -> None:
        """Count one step and print if it is time."""
        self.done += 1
        if time.monotonic() - self._printed >= PRINT_EVERY_S:
            self._printed = time.monotonic()
            print(self.line(), flush=True)

    def line(self) -> str:
        """Return 'steps done | rate | ETA'."""
        rate = self.done / max(time.monotonic() - self._started, 1e-9)
        left = (self.total - self.done) / max(rate, 1e-9)
        return f"step {self.done:,}/{self.total:,} | {rate:.1f} steps/s | ETA {int(left) // 60}m{int(left) % 60:02d}s"


def _report(epoch: int, loss: float, train: float, accuracies: np.ndarray, seconds: float) -> EpochReport:
    half_width = 1.96 * accuracies.std(ddof=1) / len(accuracies) ** 0.5 if len(accuracies) > 1 else float("nan")
    return EpochReport(
        epoch=epoch, loss=loss, train_accuracy=train, validation_accuracy=float(accuracies.mean()),
        validation_half_width=float(half_width), seconds=seconds,
    )  # fmt: skip


def _line(report: EpochReport, config: PretrainConfig, progress: StepProgress, kept: bool) -> str:
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
        "command": " ".join(["python", *command]),
        "curve": [asdict(report) for report in curve],
        "versions": {"rayfs": rayfs.__version__, "torch": torch.__version__, "python": sys.version.split()[0]},
        "date": datetime.now(UTC).date().isoformat(),
    }
