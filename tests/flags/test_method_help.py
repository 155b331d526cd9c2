"""Settings of methods as flags, and `--help-method`."""

from dataclasses import fields

import pytest

from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.episodes.method_flags import method_entries, recipes_of
from rayfs.experiments.tuning.flags import TuneConfig
from rayfs.flags.command_line import run_job
from rayfs.flags.flag import flags_of
from rayfs.flags.parsing import parse

SETTINGS = [(method, field.name) for method, entry in method_entries().items() for field in fields(entry.settings)]


def printed_help(capsys: pytest.CaptureFixture[str], *words: str, config_class: type = EvalConfig) -> str:
    assert run_job(lambda config: pytest.fail("the job ran"), config_class, "About.", words) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("config_class", [EvalConfig, TuneConfig])
@pytest.mark.parametrize(("method", "setting"), SETTINGS)
def test_every_setting_of_every_method_is_a_flag(config_class: type, method: str, setting: str) -> None:
    (flag,) = (flag for flag in flags_of(config_class) if flag.name == setting)
    assert flag.is_setting and flag.default is None


def test_settings_are_typed_as_the_method_has_them() -> None:
    words = "--out a --steps 3 --lr 1 --head-init logistic-regression --support-batch 2"
    settings = parse(EvalConfig, words.split()).settings
    assert settings == {"steps": 3, "lr": 1.0, "head_init": "logistic-regression", "support_batch": 2}
    assert isinstance(settings["lr"], float)


@pytest.mark.parametrize("method", method_entries())
def test_help_of_a_method_lists_all_its_settings(capsys, method: str) -> None:
    text = printed_help(capsys, "--help-method", method)
    settings = method_entries()[method].settings
    assert " ".join(text.split()).startswith(f"{method}: {method_entries()[method].summary}. Settings in")
    assert max(map(len, text.splitlines())) <= 100
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert listed == [f"--{field.name.replace('_', '-')}" for field in fields(settings)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "in 10-way 1-shot episodes of omniglot"),
        ("", "--steps N                 40                  SGD steps"),
        ("--benchmark fc100", "in 5-way 5-shot episodes of fc100"),
        ("--benchmark fc100", "setting                   released / fast     what it is"),
        ("--benchmark fc100", "--steps N                 288 / 100 "),
        ("--benchmark fc100 --n-shot 1", "--steps N                 1440 / 100 "),
        ("--benchmark fc100 --n-shot 1", "--support-views N         25  "),
        ("--benchmark cifar-fs --n-shot=1 --out a", "--steps N                 921 / 100 "),
        ("--benchmark fc100", "--support-batch N         not set "),
        ("--benchmark fc100", "--frozen-blocks N         0 / 2 "),
        ("--benchmark fc100", "--weight-decay X          0.0005              L2 penalty (code)."),
        ("--benchmark fc100", "One of joint, split."),
    ],
)
def test_help_of_a_method_has_the_defaults_of_the_episodes_that_are_asked_for(capsys, words, expected) -> None:
    assert expected in printed_help(capsys, "--help-method", "label-halluc", *words.split())
    assert expected in printed_help(capsys, *words.split(), "--help-method=label-halluc", config_class=TuneConfig)


def test_the_fast_recipe_is_for_photographs() -> None:
    assert recipes_of("omniglot") == ("released",) and recipes_of("folder") == ("released", "fast")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--help-method maml", "--help-method is 'maml'; expected one of logistic-regression, nearest-prototype"),
        ("--help-method", "--help-method is ''; expected one of logistic-regression,"),
        ("--help-method lr --n-shot 0", "--n-way is 10 and --n-shot 0; expected at least 2 and 1"),
        ("--help-method lr --n-shot x", "--n-shot is 'x'; expected a whole number"),
        ("--help-methods lr", "there is no flag --help-methods"),
    ],
)  # fmt: skip
def test_help_of_what_there_is_not_is_refused(capsys, words: str, message: str) -> None:
    assert run_job(lambda config: pytest.fail("the job ran"), EvalConfig, "About.", words.split()) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_the_job_s_help_has_every_method_and_its_summary_on_a_line(capsys) -> None:
    lines = printed_help(capsys, "--help").splitlines()
    for name, entry in method_entries().items():
        assert f"    {name:<22}  {entry.summary}" in lines
    assert lines[-1] == "all settings of one method: --help-method NAME"


@pytest.mark.parametrize(
    ("words", "held"),
    [
        ("--steps 5", {"steps": 5}),
        ("--steps 5 --hold base-gradient=head", {"steps": 5, "base_gradient": "head"}),
        ("--steps 5 --hold steps=5", {"steps": 5}),
    ],
)
def test_settings_given_to_the_tuner_are_held(words: str, held: dict[str, object]) -> None:
    config = parse(TuneConfig, ["--out", "a", "--tune", "lr", *words.split()])
    assert config.held == held
    assert dict(config.evaluation(methods=("label-halluc",), split="validation", episodes=3).settings) == held


def test_a_setting_that_is_given_in_two_ways_is_refused(capsys) -> None:
    words = ["--out", "a", "--tune", "lr", "--steps", "5", "--hold", "steps=6"]
    assert run_job(lambda config: 0, TuneConfig, None, words) == 2
    assert "--steps is 5 but --hold says 6; give one of the two" in capsys.readouterr().err
