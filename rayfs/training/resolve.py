"""What was given and what is published become the settings of one training. No torch here.

The published values stand in the objectives' files; benchmarks without any have those of CIFAR-FS, and the job prints
what it uses.
"""

from dataclasses import fields
from typing import Any

from rayfs.errors import InputError
from rayfs.training.config import SCHEDULE_SETTINGS, PretrainConfig, TrainingConfig
from rayfs.training.objectives.definition import ObjectiveDefinition
from rayfs.training.objectives.registry import OBJECTIVES, TEACHER_SETTINGS, with_setting
from rayfs.value_checks import flag_of

DEFAULTS = {"momentum": 0.9}
"""Of all recipes (RFS; SKD and IER inherit it)."""


def resolve(config: PretrainConfig, benchmark: str) -> TrainingConfig:
    """Return the settings of a training: what is given goes before the recipe of `benchmark`.

    Raises:
        InputError: a flag that the objective or the schedule does not have, a missing teacher, an impossible value.
    """
    definition = config.definition
    _refuse_settings_of_others(config, definition)
    _refuse_wrong_start(config, definition)
    published = {**DEFAULTS, **definition.recipe(benchmark)}
    own = {name: published.pop(name) for name in definition.setting_names if name in published}
    published = _with_schedule(config, published)
    loop = {field.name: getattr(config, field.name) for field in fields(config) if field.name != "settings"}
    for name in definition.without:
        published.pop(name, None)
    filled: dict[str, Any] = {name: published.get(name) if value is None else value for name, value in loop.items()}
    given = {name: value for name, value in config.settings.items() if name in definition.setting_names}
    return TrainingConfig(**filled, settings=definition.settings(**{**own, **given}))


def _refuse_settings_of_others(config: PretrainConfig, definition: ObjectiveDefinition) -> None:
    """Refuse what is given and means nothing to the objective; to switch off what it does not have is no error."""
    given = {name: value for name, value in config.settings.items() if value is not False}
    if definition.teacher is None:
        given |= {name: getattr(config, name) for name in TEACHER_SETTINGS if getattr(config, name) is not None}
    for name in sorted(given.keys() - set(definition.setting_names)):
        raise InputError(
            f"{flag_of(name)} is {given[name]} but --objective {definition.name} has no such setting; drop it, or "
            f"choose an objective that does: {', '.join(with_setting(name)) or 'there is none'}"
        )
    for name in definition.without:
        if getattr(config, name) is not None:
            others = ", ".join(other.name for other in OBJECTIVES.values() if name not in other.without)
            raise InputError(
                f"{flag_of(name)} is {getattr(config, name)} but --objective {definition.name} has no such setting; "
                f"drop it, or choose an objective that does: {others}"
            )


def _refuse_wrong_start(config: PretrainConfig, definition: ObjectiveDefinition) -> None:
    demand = definition.teacher
    if demand is not None and not config.teacher:
        raise InputError(
            f"--objective {definition.name} distils from a teacher; give --teacher CHECKPOINT, made by --objective "
            f"{demand.made_by}"
        )
    if definition.needs_init and not config.init:
        raise InputError(f"--objective {definition.name} goes on from trained weights; give --init CHECKPOINT")
    if config.init and demand is not None and demand.copied:
        raise InputError(
            f"--init is {config.init} but --objective {definition.name} starts from its teacher; drop --init"
        )


def _with_schedule(config: PretrainConfig, published: dict[str, Any]) -> dict[str, Any]:
    """Return `published` with the settings of the schedule that is used, and without those of the others."""
    schedule = config.schedule or published["schedule"]
    for other, names in SCHEDULE_SETTINGS.items():
        for name in names if other != schedule else ():
            published.pop(name, None)
            if getattr(config, name) is not None:
                raise InputError(
                    f"{flag_of(name)} is {getattr(config, name)} but the schedule is {schedule}; drop it, or give "
                    f"--schedule {other}"
                )
    return {**SCHEDULE_SETTINGS[schedule], **published}
