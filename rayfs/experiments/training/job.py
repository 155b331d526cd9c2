"""Embedding learning from flags to files: a checked plan, workers or this process, the curve beside the result.

The loop is `training/run.py`, Ray's part `distributed/training_workers.py`.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from rayfs.distributed.session import Resources, ray_session, refuse_lost_outputs
from rayfs.distributed.training_workers import clear_litter, even_share, only_writer, train_on_ray
from rayfs.engine.process import configure_process
from rayfs.errors import InputError
from rayfs.interrupts import sigterm_as_interrupt
from rayfs.redaction import without_secrets
from rayfs.reports.learning_curve import write_learning_curve
from rayfs.training.config import PretrainConfig
from rayfs.training.curve import EpochReport
from rayfs.training.plan import TrainingPlan, describe, finished_before
from rayfs.training.planning import plan_training
from rayfs.training.run import train
from rayfs.training.teacher import demanded, load_staged_teacher
from rayfs.training.teacher_check import check_teacher
from rayfs.training.training_state import state_path


def run_pretraining(
    *,
    benchmark: str,
    data: str | None,
    image_size: int | None,
    backbone: str,
    out: Path,
    workers: int,
    device: str,
    threads: int,
    config: PretrainConfig,
    command: Sequence[str],
    base_classes: Sequence[str] = (),
    validation_classes: Sequence[str] = (),
) -> None:
    """Train `backbone` and keep, at `out`, the epoch that is best on validation classes; go on where a run stopped.

    Beside `out`: a sidecar (.json), the learning curve as rows (.curve.parquet) and as a figure (.curve.svg).

    Arguments:
        workers: processes that train together, sharing each batch; 0: this process, without Ray.
        device: auto, cpu or cuda, one GPU a worker.
        threads: CPU threads of each worker; 0: an even share of this machine's.
        base_classes, validation_classes: only these (`rayfs.datasets.class_groups`); empty: all.

    Raises:
        InputError: wrong input, mostly before the first step.
    """
    if workers < 0 or threads < 0:
        raise InputError(f"--workers is {workers} and --threads {threads}; expected 0 or more")
    refuse_lost_outputs({"--out": out})
    with sigterm_as_interrupt(), ExitStack() as stack:
        configure_process(threads or torch.get_num_threads())
        plan = plan_training(
            benchmark=benchmark, data=data, image_size=image_size, backbone=backbone, config=config,
            n_workers=max(1, workers), out=out, command=command, base_classes=base_classes,
            validation_classes=validation_classes,
        )  # fmt: skip
        resources = stack.enter_context(ray_session()).resources if workers else None
        with only_writer(plan.out):
            clear_litter(plan.out)
        _train_or_resume(plan.on(pick_device(device, workers, resources)), threads, resources)


def _train_or_resume(plan: TrainingPlan, threads: int, resources: Resources | None) -> None:
    print(describe(plan), flush=True)
    curve = finished_before(plan)
    if curve is not None:
        write_learning_curve(plan.out, curve, curve_title(plan))
        print(f"{plan.out} is the result of this training already; nothing to do")
        return
    if plan.teacher is not None and not state_path(plan.out).exists():
        print(_checked_teacher(plan, plan.teacher), flush=True)

    say = partial(print, flush=True)

    def on_epoch(curve: list[EpochReport]) -> None:
        write_learning_curve(plan.out, [asdict(report) for report in curve], curve_title(plan))

    try:
        if resources is None:
            with only_writer(plan.out):
                train(plan, torch.device(plan.device_type), say, on_epoch)
        else:
            share = threads or even_share(resources, plan.n_workers, plan.device_type == "cuda")
            train_on_ray(plan, share, resources, say, on_epoch)
    except KeyboardInterrupt:
        print(f"\nstopped; finished epochs are kept. Resume with:\n  {without_secrets(plan.command)}", flush=True)
        raise
    print(f"learning curve: {plan.out.with_suffix('.curve.svg')}")


def _checked_teacher(plan: TrainingPlan, staged: Path) -> str:
    """Return one line about how well the teacher knows the base images; InputError where it does not."""
    base, _ = plan.tables()
    definition = plan.config.definition
    teacher = load_staged_teacher(
        staged, definition, plan.teacher_backbone, plan.benchmark, len(base.class_names), plan.teacher_hash
    )
    name = plan.config.teacher or str(staged)
    return check_teacher(teacher, demanded(definition).knows_base_classes, name, plan.benchmark, base)


def curve_title(plan: TrainingPlan) -> str:
    """Return the title of the learning curve's figure."""
    return f"{plan.config.objective}, {plan.backbone} on {plan.benchmark.name}"


def pick_device(name: str, workers: int, resources: Resources | None) -> str:
    """Turn auto, cpu or cuda into cpu or cuda; auto takes GPUs where there is one for every worker.

    Raises:
        InputError: another word, or GPUs that are not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device is '{name}'; expected auto, cpu or cuda")
    n_gpus = int(torch.cuda.is_available()) if resources is None else resources.n_fitting(1, 1)
    if name == "cuda" and n_gpus < max(1, workers):
        where = "torch finds" if resources is None else "the cluster has"
        raise InputError(
            f"--device is 'cuda' for {max(1, workers)} workers but {where} {n_gpus} GPUs; lower --workers or use "
            "--device cpu"
        )
    return "cuda" if name != "cpu" and n_gpus >= max(1, workers) else "cpu"
