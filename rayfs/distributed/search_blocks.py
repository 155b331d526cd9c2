"""Blocks of settings as trials of Ray Tune. N images, D features."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from rayfs.distributed.data_task import task_cause
from rayfs.engine.process import configure_process
from rayfs.errors import InputError
from rayfs.long_tail.centres import ClassCentres
from rayfs.long_tail.search import ScoredSetting, best_setting, score_settings
from rayfs.long_tail.search_space import TransferSpace, draw_block
from rayfs.runs.block_rows import scored_from_plain


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockTask:
    """What every block needs."""

    features_ND: Tensor
    """Of the validation images."""
    labels_N: Tensor
    centres: ClassCentres
    groups: Mapping[str, np.ndarray]
    space: TransferSpace
    thresholds: tuple[int, ...]
    seed: int


def score_block(trial: Mapping[str, Any], task: BlockTask) -> None:
    """Score the settings of block `trial["index"]` and report them; a trial of Ray Tune."""
    from ray import tune

    configure_process(1)
    settings = draw_block(task.space, task.thresholds, task.seed, trial["index"])
    scored = score_settings(task.features_ND, task.labels_N, task.centres, task.groups, settings)
    tune.report({"value": best_setting(scored, "all").value("all"), "scored": [asdict(each) for each in scored]})


def run_blocks(
    task: BlockTask, indices: Sequence[int], at_once: int, cpus: int, storage: Path,
    on_block: Callable[[int, list[ScoredSetting]], None],
) -> None:  # fmt: skip
    """Score the blocks on a connected Ray, `at_once` at a time; `on_block` is called in this process as each ends.

    Raises:
        InputError: a block failed.
    """
    from ray import tune

    from rayfs.distributed.search import TUNE_ENVIRONMENT

    class Recorder(tune.Callback):  # type: ignore[misc]  # Ray has no types
        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:  # fmt: skip
            if "scored" in result:
                on_block(trial.config["index"], [scored_from_plain(each) for each in result["scored"]])

    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)  # it misses files nobody needs
    os.environ.update({name: os.environ.get(name, value) for name, value in TUNE_ENVIRONMENT.items()})
    trainable = tune.with_resources(tune.with_parameters(score_block, task=task), {"cpu": cpus})
    results = tune.Tuner(
        trainable, param_space={"index": tune.grid_search(list(indices))},
        tune_config=tune.TuneConfig(metric="value", mode="max", max_concurrent_trials=at_once, reuse_actors=True),
        run_config=tune.RunConfig(
            name=storage.name, storage_path=str(storage.parent), verbose=0, callbacks=[Recorder()],
            failure_config=tune.FailureConfig(max_failures=2),
        ),
    ).fit()  # fmt: skip
    if results.num_errors:
        cause = task_cause(results.errors[0])
        raise cause if isinstance(cause, InputError) else InputError(f"{results.num_errors} blocks failed: {cause}")
