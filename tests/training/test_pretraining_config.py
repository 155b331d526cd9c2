"""Settings of embedding learning: the published defaults and what is refused."""

from dataclasses import fields

import pytest

from rayfs.errors import InputError
from rayfs.training.config import PretrainConfig, TrainingConfig
from rayfs.training.objectives.registry import OBJECTIVES, with_setting
from rayfs.training.resolve import resolve
from rayfs.training.schedules import create_schedule

LOOP = {field.name for field in fields(PretrainConfig)}
TEACHERS = {name: definition.teacher.made_by for name, definition in OBJECTIVES.items() if definition.teacher}


def given_as_flags(**flags) -> PretrainConfig:
    """Return what a command line of these flags means: an objective's own settings go into `settings`."""
    own = {name: value for name, value in flags.items() if name not in LOOP}
    return PretrainConfig(**{name: value for name, value in flags.items() if name in LOOP}, settings=own)


def resolved(objective: str, benchmark: str = "cifar-fs", **flags) -> TrainingConfig:
    return resolve(given_as_flags(objective=objective, **flags), benchmark)


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    return create_schedule(config, 10)(epoch, 0)


RFS_DECAY = (1 / 2, 2 / 3, 5 / 6)


@pytest.mark.parametrize(
    ("objective", "benchmark", "expected"),
    [
        ("cross-entropy", "omniglot", {"epochs": 90, "batch": 64, "lr": 0.05, "lr_decay": 0.1, "decay_at": RFS_DECAY}),
        ("rfs-simple", "cifar-fs", {"epochs": 90, "batch": 64, "lr": 0.05, "decay_at": RFS_DECAY, "schedule": "step"}),
        ("rfs-simple", "mini-imagenet", {"epochs": 100, "decay_at": (0.6, 0.8)}),
        ("rfs-simple", "tiered-imagenet", {"epochs": 60, "decay_at": RFS_DECAY}),
        ("rfs-distill", "fc100", {"epochs": 90, "temperature": 4.0, "ce_weight": 0.5, "kd_weight": 0.5, "lr": 0.05}),
        ("skd-gen0", "cifar-fs", {"epochs": 65, "decay_at": (60 / 65,), "gamma": 2.0, "lr": 0.05, "batch": 64}),
        ("skd-gen0", "tiered-imagenet", {"epochs": 60, "decay_at": RFS_DECAY}),
        ("skd-gen1", "cifar-fs", {"epochs": 65, "decay_at": (60 / 65,), "gamma": 0.1, "lr": 0.001, "temperature": 2.0}),
        ("skd-gen1", "fc100", {"epochs": 8, "decay_at": (3 / 8,), "gamma": 0.2, "lr": 0.001}),
        ("skd-gen1", "mini-imagenet", {"epochs": 8, "decay_at": (5 / 8,), "gamma": 0.025}),
        ("ier-gen0", "fc100", {"epochs": 65, "gamma": 1.0, "negatives": 6400, "memory_momentum": 0.99, "batch": 64}),
        ("ier-distill", "fc100", {"temperature": 4.0, "ce_weight": 1.0, "kd_weight": 1.0, "contrast_temperature": 1.0}),
        ("cosine", "cifar-fs", {"epochs": 90, "batch": 512, "lr": 0.2, "schedule": "cosine", "initial_scale": 16.0}),
        ("balanced-softmax", "imagenet-lt", {"epochs": 90, "batch": 512, "lr": 0.2, "initial_scale": 16.0}),
        ("cosine", "places-lt", {"epochs": 10, "batch": 128, "lr": 0.001, "head_lr": 0.1, "schedule": "cosine"}),
    ],
)  # fmt: skip
def test_defaults_are_the_published_ones(objective, benchmark, expected):
    teacher = {"teacher": "t.safetensors"} if objective in TEACHERS else {}
    config = resolved(objective, benchmark, **teacher)
    values = config.as_dict()
    assert {name: values[name] for name in expected} == expected
    assert (config.momentum, config.weight_decay, config.precision) == (0.9, 5e-4, "auto")
    assert config.sampler == ("square-root" if objective == "cosine" else "uniform")


@pytest.mark.parametrize("benchmark", ["cifar100-lt", "cifar100-lt-50", "cifar100-lt-10"])
@pytest.mark.parametrize(("objective", "sampler"), [("cosine", "square-root"), ("balanced-softmax", "uniform")])
def test_long_tailed_cifar_has_the_settings_of_ldam(benchmark, objective, sampler):
    config = resolved(objective, benchmark)
    assert (config.epochs, config.batch, config.lr, config.weight_decay) == (200, 128, 0.1, 2e-4)
    assert (config.schedule, config.sampler, config.head_lr) == ("cosine", sampler, None)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_resolved_to_a_whole_training_and_has_a_summary(objective):
    config = resolved(objective, **({"teacher": "t"} if objective in TEACHERS else {}))
    assert config.epochs >= 1 and config.batch >= 1 and config.lr > 0 and config.schedule in ("step", "cosine", "poly")
    assert None not in [getattr(config.settings, name) for name in OBJECTIVES[objective].setting_names]
    assert OBJECTIVES[objective].summary


def test_given_settings_stand():
    config = resolved("skd-gen0", epochs=3, gamma=0.0, lr=0.1)
    assert (config.epochs, config.settings.gamma, config.lr, config.batch) == (3, 0.0, 0.1, 64)


@pytest.mark.parametrize(
    ("objective", "given", "message"),
    [
        ("rfs-simple", {"gamma": 1.0}, "--gamma is 1.0 but --objective rfs-simple has no such setting; drop it, or "
         "choose an objective that does: skd-gen0, skd-gen1, ier-gen0, ier-distill"),
        ("rfs-simple", {"gamma": 0.0}, "--gamma is 0.0 but --objective rfs-simple has no such setting; drop it, or "
         "choose an objective that does: skd-gen0, skd-gen1, ier-gen0, ier-distill"),
        ("rfs-simple", {"rotations": True}, "--rotations is True but --objective rfs-simple has no such setting; drop "
         "it, or choose an objective that does: cross-entropy"),
        ("skd-gen0", {"teacher": "a.pth"}, "--teacher is a.pth but --objective skd-gen0 has no such setting; drop it, "
         "or choose an objective that does: rfs-distill, skd-gen1, ier-distill"),
        ("rfs-distill", {}, "--objective rfs-distill distils from a teacher; give --teacher CHECKPOINT, made by "
         "--objective rfs-simple"),
        ("skd-gen1", {}, "--objective skd-gen1 distils from a teacher; give --teacher CHECKPOINT, made by --objective "
         "skd-gen0"),
        ("ier-distill", {}, "--objective ier-distill distils from a teacher; give --teacher CHECKPOINT, made by "
         "--objective ier-gen0"),
        ("skd-gen1", {"teacher": "t", "init": "a.pth"}, "--init is a.pth but --objective skd-gen1 starts from its "
         "teacher; drop --init"),
        ("cosine", {"decay_at": (0.5,)}, "--decay-at is (0.5,) but the schedule is cosine; drop it, or give --schedule "
         "step"),
    ],
)  # fmt: skip
def test_setting_that_does_not_apply_is_refused(objective, given, message):
    with pytest.raises(InputError) as refusal:
        resolved(objective, **given)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(1, 0.05), (45, 0.05), (46, 0.005), (60, 0.005), (61, 0.0005), (75, 0.0005), (76, 0.00005), (90, 0.00005)],
)
def test_rate_falls_after_epochs_45_60_and_75_of_90(epoch, rate):
    assert learning_rate(resolved("rfs-simple"), epoch) == pytest.approx(rate)


@pytest.mark.parametrize(("epoch", "rate"), [(1, 0.05), (60, 0.05), (61, 0.005), (65, 0.005)])
def test_rate_of_skd_falls_after_epoch_60_of_65(epoch, rate):
    assert learning_rate(resolved("skd-gen0"), epoch) == pytest.approx(rate)


@pytest.mark.parametrize(("epoch", "rate"), [(1, 0.2), (46, 0.1), (31, 0.15), (61, 0.05), (91, 0.0)])
def test_cosine_rate_by_hand(epoch, rate):
    """cos(π/3) = 1/2, cos(π/2) = 0, cos(2π/3) = -1/2; epoch 91 would be the end of the schedule."""
    assert learning_rate(resolved("cosine"), epoch) == pytest.approx(rate)


def test_step_schedule_of_the_cosine_classifier_has_the_decay_of_rfs():
    config = resolved("cosine", schedule="step")
    assert (config.lr, config.lr_decay, config.decay_at) == (0.2, 0.1, RFS_DECAY)


@pytest.mark.parametrize(
    ("epochs", "rates"),
    [
        (1, [0.05]),
        (2, [0.05, 0.0005]),
        (6, [0.05, 0.05, 0.05, 0.005, 0.0005, 0.00005]),
    ],
)
def test_short_trainings_start_at_the_full_rate(epochs, rates):
    config = resolved("rfs-simple", epochs=epochs)
    assert [learning_rate(config, epoch) for epoch in range(1, epochs + 1)] == pytest.approx(rates)


def test_rate_without_decay_points_is_constant():
    assert learning_rate(resolved("rfs-simple", decay_at=()), 90) == 0.05


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("objective", "triplet", f"--objective is 'triplet'; expected one of {', '.join(OBJECTIVES)}"),
        ("precision", "fp8", "--precision is 'fp8'; expected one of auto, float32, bf16"),
        ("sampler", "random", "--sampler is 'random'; expected one of uniform, square-root, class-aware"),
        ("schedule", "linear", "--schedule is 'linear'; expected one of step, cosine, poly"),
        ("epochs", 0, "--epochs is 0; expected at least 1"),
        ("batch", 0, "--batch is 0; expected at least 1"),
        ("negatives", 0, "--negatives is 0; expected at least 1"),
        ("validation_n_way", 1, "--validation-n-way is 1; expected at least 2"),
        ("validation_n_shot", 0, "--validation-n-shot is 0; expected at least 1"),
        ("validation_episodes", 1, "--validation-episodes is 1; expected at least 2"),
        ("lr", 0.0, "--lr is 0.0; expected a positive number"),
        ("lr", float("nan"), "--lr is nan; expected a positive number"),
        ("lr", float("inf"), "--lr is inf; expected a positive number"),
        ("lr_decay", -0.1, "--lr-decay is -0.1; expected a positive number"),
        ("temperature", 0.0, "--temperature is 0.0; expected a positive number"),
        ("contrast_temperature", -1.0, "--contrast-temperature is -1.0; expected a positive number"),
        ("initial_scale", 0.0, "--initial-scale is 0.0; expected a positive number"),
        ("momentum", 1.0, "--momentum is 1.0; expected 0 or more, and less than 1"),
        ("memory_momentum", 1.0, "--memory-momentum is 1.0; expected 0 or more, and less than 1"),
        ("weight_decay", -1.0, "--weight-decay is -1.0; expected zero or a positive number"),
        ("gamma", -1.0, "--gamma is -1.0; expected zero or a positive number"),
        ("ce_weight", float("nan"), "--ce-weight is nan; expected zero or a positive number"),
        ("kd_weight", -0.5, "--kd-weight is -0.5; expected zero or a positive number"),
        ("decay_at", (0.5, 60), "--decay-at is (0.5, 60); expected shares of the epochs, above 0 and up to 1"),
    ],
)
def test_impossible_setting_is_refused(field, value, message):
    owners = with_setting(field)
    flags = {"objective": owners[-1] if owners else "cross-entropy", field: value}
    with pytest.raises(InputError) as refusal:
        resolved(**flags, **({"teacher": "t"} if flags["objective"] in TEACHERS else {}))
    assert str(refusal.value) == message


def test_command_of_the_packaged_embedding_still_means_what_it_meant():
    """The sidecar of the packaged weights names a command without --objective."""
    assert PretrainConfig(settings={"rotations": True}, epochs=100).objective == "cross-entropy"
    config = resolve(PretrainConfig(settings={"rotations": True}), "omniglot")
    assert config.settings.rotations is True
    assert (config.epochs, config.batch, config.lr, config.lr_decay, config.decay_at) == (90, 64, 0.05, 0.1, RFS_DECAY)
