"""All that the rest of rayfs knows of an objective, in one place. No torch here, so that a command line opens fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from rayfs.deferred import imported

if TYPE_CHECKING:
    from rayfs.training.parts import Given, Parts
    from rayfs.training.validation import CreateValidation

BASE_CLASSES: Final = "base classes"
ANY_NUMBER: Final = "any number"

HeadOutputs = int | Literal["base classes", "any number"]
"""How many outputs a head of a teacher has to have."""


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """The settings of an objective that has none of its own."""


@dataclass(frozen=True, kw_only=True)
class TeacherDemand:
    """What an objective demands of the trained networks it learns from."""

    made_by: str
    """The objective whose checkpoint is usually given."""
    heads: Mapping[str, HeadOutputs] = field(default_factory=dict)
    """Head -> its outputs. A head over the base classes is checked: it has to recognise base images. Empty: features
    alone are used, and the teacher may know any classes."""
    same_features: bool = False
    """Whether the student's features are compared with the teacher's, so that there have to be as many."""
    copied: bool = False
    """Whether the student starts as a copy, so that both have the same backbone and there is no --init."""

    @property
    def knows_base_classes(self) -> bool:
        """Whether a head of the teacher has to be over the base classes."""
        return BASE_CLASSES in self.heads.values()


@dataclass(frozen=True, kw_only=True)
class ObjectiveDefinition:
    """An objective: its name, its settings and their values, its teacher, and where it is computed."""

    name: str
    """What --objective takes."""
    summary: str
    """One line for --help."""
    create: str
    """"module:function", which makes `Parts` of `Given`; imported where something is trained, and nowhere else."""
    settings: type[Any] = NoSettings
    """A frozen keyword-only dataclass of plain values, a docstring under each field; every field has a default."""
    recipe: Callable[[str], Mapping[str, Any]]
    """Benchmark -> the published values: of the loop's settings (epochs, batch, lr, weight_decay, schedule, sampler,
    ...), and of its own where they are not the default of their field."""
    teacher: TeacherDemand | None = None
    """None: it learns from labels alone."""
    needs_init: bool = False
    """Whether the backbone has to start from trained weights (--init)."""
    without: tuple[str, ...] = ()
    """Settings of the loop that mean nothing to it: sampler, where it draws episodes."""
    unit: str = "images"
    """What a step is a number of, as messages say it."""
    any_workers: bool = False
    """Whether the weights are the same bits for any number of workers, so that another number may go on."""
    validation: str = "rayfs.training.validation:by_benchmark"
    """"module:function", which makes what chooses the epoch to keep."""

    @property
    def setting_names(self) -> tuple[str, ...]:
        """The fields of its own settings, in order."""
        return tuple(field.name for field in fields(self.settings))

    def parts(self, given: Given) -> Parts:
        """Import what computes it and return the parts of a training."""
        return cast("Parts", imported(self.create)(given))

    def create_validation(self) -> CreateValidation:
        """Import and return what makes its validation."""
        return cast("CreateValidation", imported(self.validation))
