"""What every definition of an objective has to keep to."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace

import pytest

from rayfs.deferred import imported
from rayfs.flags.field_docs import field_docs
from rayfs.training.config import PretrainConfig
from rayfs.training.objectives.catalogue import BENCHMARKS, describe_objective
from rayfs.training.objectives.registry import OBJECTIVES
from rayfs.training.resolve import resolve

every_definition = pytest.mark.parametrize("definition", OBJECTIVES.values(), ids=OBJECTIVES)


@every_definition
def test_name_is_the_key_and_what_it_refers_to_exists(definition):
    assert OBJECTIVES[definition.name] is definition and definition.summary
    assert callable(imported(definition.create)) and callable(imported(definition.validation))


@every_definition
def test_settings_are_a_frozen_dataclass_of_defaults_with_a_docstring_under_each(definition):
    assert is_dataclass(definition.settings) and field_docs(definition.settings).keys() == set(definition.setting_names)
    settings = definition.settings()
    for name in definition.setting_names:
        with pytest.raises(FrozenInstanceError):
            setattr(settings, name, 1)


@every_definition
def test_no_setting_of_its_own_has_the_name_of_one_of_the_loop(definition):
    assert not set(definition.setting_names) & {setting.name for setting in fields(PretrainConfig)}


@every_definition
@pytest.mark.parametrize("benchmark", (*BENCHMARKS, "omniglot", "folder"))
def test_recipe_decides_all_that_the_loop_needs(definition, benchmark):
    teacher = "teacher" if definition.teacher else None
    config = resolve(PretrainConfig(objective=definition.name, teacher=teacher), benchmark)
    assert None not in (config.epochs, config.batch, config.lr, config.weight_decay, config.sampler, config.momentum)
    assert replace(config) == config
    own = set(definition.recipe(benchmark)) & set(definition.setting_names)
    assert all(getattr(config.settings, name) == definition.recipe(benchmark)[name] for name in own)


@every_definition
def test_teacher_is_made_by_an_objective_that_exists(definition):
    if definition.teacher:
        assert OBJECTIVES[definition.teacher.made_by].teacher is None
        assert "classifier" in definition.teacher.heads


@every_definition
def test_help_of_an_objective_has_its_settings_and_its_published_values(definition):
    said = describe_objective(definition.name, {"benchmark": "fc100"})
    assert all(f"--{name.replace('_', '-')}" in said for name in definition.setting_names)
    assert f"epochs {definition.recipe('fc100')['epochs']}" in said and definition.summary in said
    assert max(map(len, said.splitlines())) <= 100


def test_settings_and_help_import_no_torch():
    code = (
        "import sys; from rayfs.training.objectives.catalogue import describe_objective as d; "
        "from rayfs.training.resolve import resolve; from rayfs.experiments.training.flags import PretrainFlags; "
        "d('ier-distill', {'benchmark': 'cifar-fs'}); "
        "print(sorted({'torch', 'numpy', 'ray', 'scipy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
