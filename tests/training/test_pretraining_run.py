"""A whole training: best epoch's checkpoint and sidecar, resumed where it stopped, test classes untouched."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rayfs.training.keeper as keeper
import rayfs.training.planning as plan_module
from rayfs.backbones.checkpoints import load_checkpoint, read_heads, save_checkpoint
from rayfs.backbones.registry import create_backbone
from rayfs.backbones.state import state_hash
from rayfs.durable_files import write_durably
from rayfs.errors import InputError
from rayfs.randomness import torch_generator
from rayfs.training.config import PretrainConfig
from rayfs.training.curve import EpochReport
from rayfs.training.loop import Trainer
from rayfs.training.plan import TrainingPlan, describe, finished_before
from rayfs.training.planning import plan_training
from rayfs.training.run import create_trainer, train
from rayfs.training.team import Team
from rayfs.training.training_state import read_state, refuse_other, state_path, write_state
from rayfs.training.validation import FewShotAccuracy

CONFIG = PretrainConfig(epochs=3, batch=40, lr=0.02, validation_n_way=3, validation_episodes=3)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def tiny_benchmark(benchmark, cache_dir, monkeypatch):
    monkeypatch.setattr(plan_module, "open_benchmark", lambda name, data, image_size: benchmark)
    monkeypatch.setenv("RAYFS_CACHE", str(cache_dir))


def planned(out: Path, **changes: Any) -> TrainingPlan:
    given = {
        "benchmark": "characters", "data": None, "image_size": None, "backbone": "conv4", "config": CONFIG,
        "n_workers": 1, "command": ["jobs/pretrain.py", "--out", "a b.safetensors"],
    }  # fmt: skip
    return plan_training(out=out, **{**given, **changes}).on("cpu")


def pretrain(out: Path, **changes: Any) -> tuple[list[str], list[EpochReport]]:
    """Train from end to end; returns the lines that were said and the learning curve."""
    lines: list[str] = []
    curves: list[list[EpochReport]] = []
    train(planned(out, **changes), CPU, lines.append, lambda curve: curves.append(list(curve)))
    return lines, curves[-1] if curves else []


def sidecar(out: Path) -> dict[str, Any]:
    return json.loads(out.with_suffix(".json").read_text())["metadata"]


class Killed(BaseException):
    """Stands for the death of the process."""


def kill_in_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Let the process die in the middle of `epoch`, once."""
    whole = Trainer._step

    def step(self: Trainer, *given):
        if self._optimiser.param_groups[0]["now"] == epoch and self.steps_taken == 2:
            raise Killed
        self.steps_taken += 1
        return whole(self, *given)

    started = Trainer._start_epoch

    def start(self: Trainer, epoch_now: int, units_TU: torch.Tensor) -> None:
        started(self, epoch_now, units_TU)
        self._optimiser.param_groups[0]["now"], self.steps_taken = epoch_now, 0

    monkeypatch.setattr(Trainer, "_step", step)
    monkeypatch.setattr(Trainer, "_start_epoch", start)


def test_run_lowers_the_loss_and_says_so(tmp_path):
    """Test classes are never opened: the benchmark of these tests raises where they are."""
    lines, curve = pretrain(tmp_path / "new" / "a.safetensors")
    losses = [float(line.split("loss ")[1].split(" |")[0]) for line in lines if "| loss " in line]
    assert losses == [round(report.loss, 3) for report in curve] and losses[2] < losses[0]
    assert lines[-1].startswith("kept epoch ")


def test_description_tells_what_is_trained_on_what(tmp_path):
    assert describe(planned(tmp_path / "a.safetensors", n_workers=2)) == (
        "cross-entropy: conv4 on characters, 160 base images of 8 classes, 6 validation classes, 16 px, 2 workers, "
        "cpu, float32\n"
        "epochs 3, batch 40, lr 0.02, schedule step, lr_decay 0.1, decay_at 0.5/0.667/0.833, momentum 0.9, "
        "weight_decay 0.0005, sampler uniform, validation_n_way 3, validation_n_shot 1, validation_episodes 3, seed 0"
    )


def test_same_command_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        pretrain(tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_checkpoint_loads_back_and_its_sidecar_tells_how_it_was_made(tmp_path):
    out = tmp_path / "a.safetensors"
    _, curve = pretrain(out)
    report = load_checkpoint(out, create_backbone("conv4", 1, 16, torch_generator(9, "other weights")))
    assert report.ignored == ("classifier.bias", "classifier.weight") and not report.filled
    assert read_heads(out)["classifier.weight"].shape == (8, 64)
    metadata = report.metadata
    assert metadata == sidecar(out)
    assert (metadata["backbone"], metadata["benchmark"], metadata["channels"], metadata["image_size"]) == (
        "conv4", "characters", 1, 16,
    )  # fmt: skip
    assert metadata["command"] == "python jobs/pretrain.py --out 'a b.safetensors'"
    assert metadata["training"]["epochs"] == 3 and metadata["training"]["objective"] == "cross-entropy"
    assert metadata["training"]["decay_at"] == [1 / 2, 2 / 3, 5 / 6]
    assert metadata["versions"]["torch"] == torch.__version__
    assert metadata["complete"] and [row["epoch"] for row in metadata["curve"]] == [1, 2, 3]
    kept = metadata["curve"][metadata["kept_epoch"] - 1]
    assert (
        kept["validation_accuracy"] == metadata["validation"]["accuracy"] == max(r.validation_accuracy for r in curve)
    )
    assert metadata["identity"]["base_table"] and metadata["identity"]["validation_table"]


@pytest.mark.parametrize(("accuracies", "best"), [([0.5, 0.8, 0.8], 2), ([0.9, 0.8, 0.9], 1), ([0.1, 0.2, 0.3], 3)])
def test_best_epoch_on_validation_classes_is_kept_and_the_earlier_of_equals(tmp_path, monkeypatch, accuracies, best):
    hashes = []

    def scripted(self, networks, device):
        assert not networks.training
        hashes.append(state_hash(networks.backbone))
        return np.full(3, accuracies[len(hashes) - 1])

    monkeypatch.setattr(FewShotAccuracy, "scores", scripted)
    out = tmp_path / "a.safetensors"
    pretrain(out)
    kept = create_backbone("conv4", 1, 16, torch_generator(9, "other weights"))
    load_checkpoint(out, kept)
    assert len(set(hashes)) == 3
    assert state_hash(kept) == hashes[best - 1]
    assert sidecar(out)["kept_epoch"] == best


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_kill_in_the_middle_of_an_epoch_and_a_resume_give_the_weights_of_an_uninterrupted_run(
    tmp_path, monkeypatch, epoch
):
    whole, out = tmp_path / "whole.safetensors", tmp_path / "a.safetensors"
    pretrain(whole)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in_epoch(patch, epoch)
        pretrain(out)
    assert (read_state(state_path(out)) is None) == (epoch == 1)
    lines, curve = pretrain(out)
    assert ("resuming after epoch" in lines[0]) == (epoch > 1)
    assert out.read_bytes() == whole.read_bytes()
    assert [report.epoch for report in curve] == [1, 2, 3]
    timeless = [replace(report, seconds=0.0, images_per_second=0.0) for report in curve]
    stored = [EpochReport(**row) for row in sidecar(whole)["curve"]]
    assert timeless == [replace(report, seconds=0.0, images_per_second=0.0) for report in stored]
    assert not state_path(out).exists()


def test_finished_training_is_not_done_again(tmp_path):
    out = tmp_path / "a.safetensors"
    assert finished_before(planned(out)) is None
    pretrain(out)
    assert [row["epoch"] for row in finished_before(planned(out))] == [1, 2, 3]
    before = out.stat().st_mtime_ns
    assert pretrain(out) == ([], []) and out.stat().st_mtime_ns == before, "as a worker that is started again finds it"


def test_other_settings_do_not_overwrite_a_finished_training(tmp_path):
    out = tmp_path / "a.safetensors"
    pretrain(out)
    with pytest.raises(InputError, match=r"belongs to a training with training\.lr 0\.02, and this command says 0\.1"):
        finished_before(planned(out, config=replace(CONFIG, lr=0.1)))


def test_other_settings_do_not_go_on_with_an_unfinished_training(tmp_path, monkeypatch):
    out = tmp_path / "a.safetensors"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in_epoch(patch, 2)
        pretrain(out)
    with pytest.raises(InputError, match=r"a\.training belongs to a training with workers 1, and this command says 2"):
        finished_before(planned(out, n_workers=2))


@pytest.mark.parametrize(
    ("objective", "own"), [("skd-gen0", {"gamma": 2.0}), ("cross-entropy", {"rotations": True}), ("rfs-simple", {})]
)
def test_identity_of_a_training_begun_when_all_objectives_had_all_settings_is_still_its_own(tmp_path, objective, own):
    settings = {"rotations": True} if own.get("rotations") else {}
    plan = planned(tmp_path / "a.safetensors", config=replace(CONFIG, objective=objective, settings=settings))
    before = {
        "objective": objective, "teacher": None, "init": None, "epochs": 3, "batch": 40, "lr": 0.02, "head_lr": None,
        "schedule": "step", "lr_decay": 0.1, "decay_at": list(plan.config.decay_at), "momentum": 0.9,
        "weight_decay": 5e-4, "sampler": "uniform", "precision": "float32", "rotations": False, "gamma": None,
        "temperature": None, "ce_weight": None, "kd_weight": None, "negatives": None, "memory_momentum": None,
        "contrast_temperature": None, "initial_scale": None, "validation_n_way": 3, "validation_n_shot": 1,
        "validation_episodes": 3, "seed": 0, **own,
    }  # fmt: skip
    refuse_other(plan.out, {**plan.identity, "training": before}, plan.identity)
    with pytest.raises(InputError, match=r"training\.rotations"):
        changed = {**before, "rotations": not before["rotations"]}
        refuse_other(plan.out, {**plan.identity, "training": changed}, plan.identity)


def test_weights_of_unknown_origin_are_not_overwritten(tmp_path):
    out = tmp_path / "a.safetensors"
    save_checkpoint(out, create_backbone("conv4", 1, 16, torch_generator(0, "weights")), {})
    with pytest.raises(InputError, match="exists and does not say which training it is from; give another --out"):
        finished_before(planned(out))


@pytest.mark.parametrize("dies_at", ["write_state", "save_checkpoint", "unlink", "sidecar"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_death_between_any_two_writes_loses_nothing(tmp_path, monkeypatch, dies_at, call):
    """The state before or after it is written, the weights without their sidecar, a finished training's state left."""
    whole, out, calls = tmp_path / "whole.safetensors", tmp_path / "a.safetensors", []
    pretrain(whole)

    def dying(original):
        def wrapped(*given, **named):
            calls.append(1)
            if len(calls) == call:
                raise Killed
            return original(*given, **named)

        return wrapped

    with monkeypatch.context() as patch:
        if dies_at == "unlink":
            patch.setattr(keeper.Keeper, "finish", dying(keeper.Keeper.finish))
            call = 1
        elif dies_at == "sidecar":  # after the old sidecar is gone and before the new one is there
            patch.setattr("rayfs.backbones.checkpoints.write_durably", dying(write_durably))
        else:
            patch.setattr(keeper, dies_at, dying(getattr(keeper, dies_at)))
        with pytest.raises(Killed) if call < 3 else suppress(Killed):  # the third epoch may not be an improvement
            pretrain(out)
    pretrain(out)
    assert out.read_bytes() == whole.read_bytes()
    assert sidecar(out)["complete"] and sidecar(out)["kept_epoch"] == sidecar(whole)["kept_epoch"]
    assert not state_path(out).exists()


def test_kept_weights_are_those_the_curve_says_even_if_a_redone_epoch_turns_out_worse(tmp_path, monkeypatch):
    """On another machine the epoch after a resume may score lower than the one that was lost with the process."""
    out, scores, kept = tmp_path / "a.safetensors", iter([0.5, 0.9, 0.4, 0.3]), []

    def scripted(self, networks, device):
        kept.append(state_hash(networks.backbone))
        return np.full(3, next(scores))

    monkeypatch.setattr(FewShotAccuracy, "scores", scripted)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(keeper, "write_state", lambda path, state: die_in_epoch_2(path, state))
        pretrain(out)
    pretrain(out)
    assert sidecar(out)["kept_epoch"] == 1
    backbone = create_backbone("conv4", 1, 16, torch_generator(9, "other weights"))
    load_checkpoint(out, backbone)
    assert state_hash(backbone) == kept[0]


def die_in_epoch_2(path, state) -> None:
    if len(state.curve) == 2:
        raise Killed
    write_state(path, state)


def test_lost_checkpoint_comes_back_from_the_state(tmp_path, monkeypatch):
    whole, out = tmp_path / "whole.safetensors", tmp_path / "a.safetensors"
    pretrain(whole)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in_epoch(patch, 3)
        pretrain(out)
    out.unlink()
    pretrain(out)
    assert out.read_bytes() == whole.read_bytes()


def test_damaged_state_is_refused(tmp_path):
    state_path(tmp_path / "a.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match="is not the state of a training, or is damaged"):
        finished_before(planned(tmp_path / "a.safetensors"))


def test_loss_that_is_not_finite_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    out, whole = tmp_path / "a.safetensors", Trainer._step

    def step(self: Trainer, *given):
        values = whole(self, *given)
        return values | {"loss": values["loss"] * (float("nan") if state_path(out).exists() else 1)}

    monkeypatch.setattr(Trainer, "_step", step)
    with pytest.raises(InputError, match="the loss of epoch 2, step 1 of 4, is nan; the step's images are the rows"):
        pretrain(out)
    assert sidecar(out)["kept_epoch"] == 1
    load_checkpoint(out, create_backbone("conv4", 1, 16, torch_generator(9, "other weights")))
    assert len(read_state(state_path(out)).curve) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "vgg"}, "unknown backbone 'vgg'"),
        ({"config": replace(CONFIG, validation_n_way=7)}, "has 6 classes but the protocol asks for 7-way"),
        ({"config": replace(CONFIG, validation_n_shot=20)}, "has 20 images but an episode takes 20 support"),
        ({"config": replace(CONFIG, objective="rfs-distill")}, "distils from a teacher; give --teacher CHECKPOINT"),
        (
            {"config": replace(CONFIG, settings={"gamma": 1.0})},
            "--gamma is 1.0 but --objective cross-entropy has no such setting",
        ),
    ],
)
def test_wrong_input_is_refused_before_the_first_step(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        planned(tmp_path / "a.safetensors", **changes)
    assert list(tmp_path.iterdir()) == []


def test_benchmark_without_validation_classes_is_refused(tmp_path, benchmark, monkeypatch):
    unvalidated = replace(benchmark, sources={"base": benchmark.sources["base"]})
    monkeypatch.setattr(plan_module, "open_benchmark", lambda name, data, image_size: unvalidated)
    with pytest.raises(InputError, match="'characters' has no validation classes, which choose the epoch to keep"):
        planned(tmp_path / "a.safetensors")


def test_checkpoint_of_another_ending_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"--out is '.*a\.pth'; expected the path of a file that ends in \.safetensors"
    ):
        planned(tmp_path / "a.pth")


def test_uri_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--out is 's3:/b/a\.safetensors'; expected the path of a file"):
        planned(Path("s3://b/a.safetensors"))


def test_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot write checkpoint"):
        planned(tmp_path / "file" / "a.safetensors")


def test_auto_precision_is_bf16_on_gpus_only(tmp_path):
    plan = planned(tmp_path / "a.safetensors")
    assert plan.config.precision == plan.identity["training"]["precision"] == "float32"
    auto = replace(plan, config=replace(plan.config, precision="auto"))
    assert auto.on("cuda").config.precision == "bf16" and auto.on("cuda").identity["device"] == "cuda"
    assert replace(plan, config=replace(plan.config, precision="float32")).on("cuda").config.precision == "float32"


# A long tail: the splits share their classes


@pytest.fixture
def long_tail(benchmark, monkeypatch):
    """The same characters in both splits, and a validation split without the first class."""
    shared = benchmark.sources["base"]

    def without_the_first(folder: Path):
        source = shared(folder)
        return source.only(source.class_names[1:])

    sources = {**benchmark.sources, "validation": without_the_first}
    changed = replace(benchmark, sources=sources, shared_classes=True)
    monkeypatch.setattr(plan_module, "open_benchmark", lambda name, data, image_size: changed)


@pytest.mark.usefixtures("long_tail")
def test_long_tailed_training_keeps_the_epoch_whose_classifier_is_best_on_validation_images(tmp_path):
    """The kept backbone and head, put together again here, reach the accuracy of the sidecar class by class."""
    out = tmp_path / "a.safetensors"
    config = replace(CONFIG, objective="balanced-softmax", lr=0.05, batch=20, epochs=6)
    lines, curve = pretrain(out, config=config)
    assert "| validation mean over classes " in lines[0] and lines[-1].endswith(f"on validation images, {out}")
    base, validation = planned(out, config=config).tables()
    backbone = create_backbone("conv4", 1, 16, torch_generator(9, "other weights"))
    load_checkpoint(out, backbone)
    weight, right = read_heads(out, backbone)["classifier.weight"], []
    for label, name in enumerate(validation.class_names):
        images = torch.from_numpy(validation.images[validation.labels == label].copy())
        with torch.no_grad():
            features = backbone.eval()((images.float().permute(0, 3, 1, 2) / 255 - 0.92) / 0.2)
        guesses = torch.nn.functional.cosine_similarity(features[:, None], weight[None], dim=2).argmax(1)
        right.append((guesses == base.class_names.index(name)).float().mean().item())
    metadata = sidecar(out)
    assert metadata["validation"]["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)
    assert metadata["validation"]["accuracy"] == max(report.validation_accuracy for report in curve) > 2 / 8
    assert metadata["validation"]["half_width"] == pytest.approx(1.96 * np.std(right, ddof=1) / 7**0.5, abs=1e-6)
    assert "n_way" not in metadata["validation"] and "mean over the classes" in metadata["validation"]["measure"]


@pytest.mark.usefixtures("long_tail")
def test_description_of_a_long_tail_says_what_validates(tmp_path):
    described = describe(planned(tmp_path / "a.safetensors"))
    assert "160 base images of 8 classes, 140 validation images of 7 of them, 16 px" in described
    assert "validation_n_way" not in described


@pytest.mark.usefixtures("long_tail")
def test_classes_left_out_of_a_long_tail_are_in_neither_table_and_the_sidecar_names_them(tmp_path):
    out, chosen = tmp_path / "a.safetensors", {"base_classes": ["not:Latin/character02", "not:Latin/character05"]}
    config = replace(CONFIG, objective="cosine", epochs=1)
    plan = planned(out, config=config, **chosen)
    kept = [f"Latin/character{number:02d}" for number in (1, 3, 4, 6, 7, 8)]
    assert [list(table.class_names) for table in plan.tables()] == [kept, kept[1:]]  # nothing validates the first
    assert "120 base images of 6 classes (2 left out), 100 validation images of 5 of them" in describe(plan)
    pretrain(out, config=config, **chosen)
    assert read_heads(out)["classifier.weight"].shape[0] == 6
    metadata = sidecar(out)
    assert metadata["classes"] == kept and metadata["left_out"] == ["Latin/character02", "Latin/character05"]
    assert metadata["identity"] == planned(out, config=config, **chosen).identity
    assert finished_before(planned(out, config=config, **chosen)) is not None
    with pytest.raises(InputError, match="belongs to a training with base_table"):
        finished_before(planned(out, config=config))


@pytest.mark.usefixtures("long_tail")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"base_classes": ["Latin/character01", "Latin/character02"]}, "keeps 2 of 8 classes, 1 of which have"),
        ({"base_classes": ["not:few"]}, "not:few keeps 0 of 8 classes"),
        ({"base_classes": ["not:many"]}, "'many' means none of the 8 classes"),
        ({"base_classes": ["not:few-kang"]}, "'few-kang' means none of the 8 classes"),
        ({"base_classes": ["medium-kang"]}, "keeps all 8 classes and changes nothing"),
        ({"base_classes": ["Greek"]}, "'Greek' is no class or group here"),
        ({"validation_classes": ["few"]}, "--validation-classes is few, but the classes of characters are the same"),
    ],
)
def test_choices_that_leave_nothing_or_are_wrong_are_refused(tmp_path, given, expected):
    """All characters have 20 drawings: few-shot with the paper's border, medium-shot with Kang's."""
    with pytest.raises(InputError, match=expected):
        planned(tmp_path / "a.safetensors", **given)
    assert list(tmp_path.iterdir()) == []


# Initial weights


def test_training_starts_from_the_given_checkpoint_and_its_hash_is_part_of_the_identity(tmp_path, monkeypatch):
    given = create_backbone("conv4", 1, 16, torch_generator(5, "given"))
    save_checkpoint(tmp_path / "given.safetensors", given, {"backbone": "conv4"})
    config, out = replace(CONFIG, init=str(tmp_path / "given.safetensors")), tmp_path / "a.safetensors"
    plan = planned(out, config=config)
    assert plan.identity["training"]["init"] == state_hash(given)
    base, _ = plan.tables()
    trainer = create_trainer(plan, base, CPU, Team())
    assert state_hash(trainer.networks.backbone) == state_hash(given)
    assert state_hash(create_trainer(planned(out), base, CPU, Team()).networks.backbone) != state_hash(given)


def test_initial_weights_that_are_not_there_or_of_another_backbone_are_refused(tmp_path):
    given = create_backbone("conv4-32", 1, 16, torch_generator(5, "given"))
    save_checkpoint(tmp_path / "given.safetensors", given, {"backbone": "conv4-32"})
    for name, message in (("given", "is of the backbone 'conv4-32', not 'conv4'"), ("none", "does not exist")):
        config = replace(CONFIG, init=str(tmp_path / f"{name}.safetensors"))
        with pytest.raises(InputError, match=f"^--init: .*{message}"):
            planned(tmp_path / "a.safetensors", config=config)
