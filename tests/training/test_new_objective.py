"""An objective added by one file and one line: flags, help, training, resume, workers. The loop knows nothing of it."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from prototypes_objective import PROTOTYPES, PrototypesLearner

import rayfs.training.planning as plan_module
from rayfs.backbones.checkpoints import load_checkpoint
from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.registry import create_backbone
from rayfs.backbones.state import state_hash
from rayfs.datasets.image_table import open_table
from rayfs.datasets.registry import Benchmark
from rayfs.errors import InputError
from rayfs.experiments.training.flags import PretrainFlags
from rayfs.flags.command_line import run_job
from rayfs.randomness import torch_generator
from rayfs.training.config import PretrainConfig
from rayfs.training.loop import Trainer
from rayfs.training.objectives import registry
from rayfs.training.parts import Given
from rayfs.training.planning import plan_training
from rayfs.training.resolve import resolve
from rayfs.training.team import Team
from rayfs.training.training_state import read_state, state_path

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def added(benchmark, cache_dir, monkeypatch):
    monkeypatch.setitem(registry.OBJECTIVES, PROTOTYPES.name, PROTOTYPES)  # the one line
    monkeypatch.setattr(plan_module, "open_benchmark", lambda name, data, image_size: benchmark)
    monkeypatch.setenv("RAYFS_CACHE", str(cache_dir))


@pytest.fixture(scope="module")
def job() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pretrain_job", Path(__file__).parents[2] / "jobs" / "pretrain.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pretrain(job: ModuleType, out: Path, *flags: str) -> int:
    argv = ("--objective", "prototypes", "--workers", "0", "--validation-n-way", "3", "--validation-episodes", "3",
            "--threads", "1", "--device", "cpu", "--out", str(out), *flags)  # fmt: skip
    return run_job(job.main, PretrainFlags, None, argv)


def test_job_trains_it_with_its_own_flags_units_and_validation(job, tmp_path, capsys):
    out = tmp_path / "a.safetensors"
    assert pretrain(job, out, "--sharpness", "0.5") == 0
    said = capsys.readouterr().out
    assert "prototypes: conv4 on characters, 160 base images of 8 classes, ten validation episodes, 16 px" in said
    assert "epochs 2, batch 4, lr 0.001, schedule poly, poly_power 0.9, weight_decay 0.0, n_way 4, sharpness" in said
    assert "sharpness 0.5, steps_an_epoch 4, validation_n_way 3, validation_n_shot 1, seed 0" in said
    assert "epoch 2/2 | loss" in said and "| validation ten episodes " in said
    assert said.splitlines()[-2].startswith("kept epoch ") and "on ten validation episodes" in said
    metadata = json.loads(out.with_suffix(".json").read_text())["metadata"]
    assert metadata["training"]["sharpness"] == metadata["identity"]["training"]["sharpness"] == 0.5
    assert metadata["validation"]["measure"] == "ten episodes"
    rates = [report["learning_rate"] for report in metadata["curve"]]
    assert rates == pytest.approx([1e-3, 1e-3 * 0.5**0.9])
    load_checkpoint(out, create_backbone("conv4", 1, 16, torch_generator(9, "other weights")))


def test_job_lists_it_and_describes_its_settings(job, capsys):
    assert run_job(job.main, PretrainFlags, None, ["--help"]) == 0
    assert "prototypes              prototypes of whole episodes" in capsys.readouterr().out
    assert run_job(job.main, PretrainFlags, None, ["--help-objective", "prototypes"]) == 0
    said = capsys.readouterr().out
    assert "--sharpness X" in said and "What squared distances are multiplied with" in said and "schedule poly" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--sampler", "uniform"), "--sampler is uniform but --objective prototypes has no such setting"),
        (("--gamma", "1"), "--gamma is 1.0 but --objective prototypes has no such setting; drop it, or choose"),
        (("--teacher", "a"), "--teacher is a but --objective prototypes has no such setting"),
        (("--decay-at", "0.5"), "--decay-at is (0.5,) but the schedule is poly; drop it, or give --schedule step"),
        (("--objective", "rfs-simple", "--sharpness", "2"), "choose an objective that does: prototypes"),
        (("--lr", "1e30", "--schedule", "cosine"), "the step's episodes are "),
    ],
)
def test_wrong_flags_are_refused_by_name(job, tmp_path, capsys, flags, message):
    assert pretrain(job, tmp_path / "a.safetensors", *flags) == 2
    assert message in capsys.readouterr().err


def test_other_number_of_workers_is_the_same_training_where_it_gives_the_same_bits(tmp_path):
    def identity(objective: str, n_workers: int) -> dict[str, Any]:
        return plan_training(
            benchmark="characters", data=None, image_size=None, backbone="conv4", n_workers=n_workers, command=["job"],
            out=tmp_path / "a.safetensors", config=PretrainConfig(objective=objective, validation_n_way=3),
        ).identity  # fmt: skip

    assert identity("prototypes", 1) == identity("prototypes", 2)
    assert identity("cross-entropy", 1) != identity("cross-entropy", 2)


def test_steps_that_workers_cannot_share_are_refused_by_their_unit(tmp_path):
    with pytest.raises(InputError, match="a batch of 4 episodes cannot be shared evenly by 3 workers"):
        plan_training(
            benchmark="characters", data=None, image_size=None, backbone="conv4", n_workers=3, command=["job"],
            out=tmp_path / "a.safetensors", config=PretrainConfig(objective="prototypes", validation_n_way=3),
        )  # fmt: skip


def test_objective_that_goes_on_from_trained_weights_demands_them(monkeypatch):
    monkeypatch.setitem(registry.OBJECTIVES, "prototypes", replace(PROTOTYPES, needs_init=True))
    with pytest.raises(InputError, match="--objective prototypes goes on from trained weights; give --init CHECKPOINT"):
        resolve(PretrainConfig(objective="prototypes"), "characters")
    assert resolve(PretrainConfig(objective="prototypes", init="a.pth"), "characters").init == "a.pth"


class Killed(BaseException):
    """Stands for the death of the process."""


def test_killed_training_goes_on_to_the_weights_of_one_that_never_stopped(job, tmp_path, monkeypatch):
    """What Adam remembers included, and what the learner does."""
    whole, out = tmp_path / "whole.safetensors", tmp_path / "a.safetensors"
    flags = ("--epochs", "3")
    assert pretrain(job, whole, *flags) == 0
    with monkeypatch.context() as patch, pytest.raises(Killed):
        of_task = PrototypesLearner.task_gradients

        def dies(self, number: int) -> Any:
            if number == 2 * 16 + 6:  # epoch 3, step 2
                raise Killed
            return of_task(self, number)

        patch.setattr(PrototypesLearner, "task_gradients", dies)
        pretrain(job, out, *flags)
    state = read_state(state_path(out))
    assert state is not None and state.tensors["objective/epochs_seen"] == 2
    kinds = {name.split("/")[1] for name in state.tensors if name.startswith("optimiser/")}
    assert kinds == {"step", "exp_avg", "exp_avg_sq"}
    assert pretrain(job, out, *flags) == 0
    assert out.read_bytes() == whole.read_bytes()


def make_trainer(benchmark: Benchmark, base: Any, team: Team) -> Trainer:
    config = resolve(PretrainConfig(objective="prototypes", settings={"steps_an_epoch": 2}), "characters")
    given = Given(
        config=config, backbone=Conv4(1, width=8, generator=torch_generator(0, "weights")), benchmark=benchmark,
        base=base, device=CPU, team=team,
    )  # fmt: skip
    return Trainer(config.definition.parts(given), config, CPU, team)


def test_rate_falls_with_every_step(benchmark, base):
    """`lr (1 - t/T)^0.9`, t of T = 2 epochs of 2 steps."""
    trainer, seen = make_trainer(benchmark, base, Team()), []
    for epoch in (1, 2):
        trainer.train_epoch(epoch, lambda: seen.append(trainer._optimiser.param_groups[0]["lr"]))
    assert seen == pytest.approx([1e-3, 1e-3 * 0.75**0.9, 1e-3 * 0.5**0.9, 1e-3 * 0.25**0.9])


def test_two_workers_share_whole_episodes_and_give_the_bits_of_one(benchmark, base, tmp_path):
    trainer = make_trainer(benchmark, base, Team())
    losses = [trainer.train_epoch(epoch, lambda: None)[0] for epoch in (1, 2)]
    torch.multiprocessing.spawn(
        be_a_worker, (benchmark_parts(benchmark), base.path.parents[1], base.fingerprint, tmp_path), nprocs=2
    )
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert found[0]["losses"].tolist() == found[1]["losses"].tolist() == pytest.approx(losses, rel=1e-6)
    for name, parameter in trainer.networks.named_parameters():
        assert torch.equal(found[0][name], parameter.data) and torch.equal(found[1][name], parameter.data), name


def benchmark_parts(benchmark: Benchmark) -> dict[str, Any]:
    names = ("name", "image_size", "channels", "mean", "std", "augmentation")
    return {name: getattr(benchmark, name) for name in names}


def be_a_worker(rank: int, parts: dict[str, Any], cache_dir: Path, fingerprint: str, folder: Path) -> None:
    torch.set_num_threads(1)
    registry.OBJECTIVES[PROTOTYPES.name] = PROTOTYPES
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    trainer = make_trainer(Benchmark(**parts, sources={}), open_table(cache_dir, fingerprint), Team.of_this_process())
    losses = [trainer.train_epoch(epoch, lambda: None)[0] for epoch in (1, 2)]
    weights = {name: parameter.data for name, parameter in trainer.networks.named_parameters()}
    torch.save({**weights, "losses": torch.tensor(np.array(losses))}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_losses_of_epochs_follow_the_epoch(benchmark, base):
    """The learner is told the epoch: in the second one, distances count twice."""
    trainer = make_trainer(benchmark, base, Team())
    seen = []
    for epoch in (1, 2):
        trainer.train_epoch(epoch, lambda: None)
        seen.append(trainer.learner._sharpness)
    assert seen == [1.0, 2.0]
    assert state_hash(trainer.networks) != state_hash(make_trainer(benchmark, base, Team()).networks)
