"""How an embedding is trained: what was given, and what was decided. No torch here: a command line opens fast."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any

from rayfs.errors import InputError
from rayfs.flags.flag import Shown, settings_of
from rayfs.training.objectives.catalogue import OBJECTIVE_CATALOGUE
from rayfs.training.objectives.definition import NoSettings, ObjectiveDefinition
from rayfs.training.objectives.registry import OBJECTIVES
from rayfs.value_checks import (
    refuse_below,
    refuse_negative,
    refuse_other_word,
    refuse_unless_positive,
    refuse_unless_share,
)

PRECISIONS = ("auto", "float32", "bf16")
SAMPLERS = ("uniform", "square-root", "class-aware")

SCHEDULE_SETTINGS: dict[str, dict[str, Any]] = {
    "step": {"lr_decay": 0.1, "decay_at": (1 / 2, 2 / 3, 5 / 6)},
    "cosine": {},
    "poly": {"poly_power": 0.9},
}
"""Schedule -> its settings, and what they are where neither a flag nor the recipe says: RFS on CIFAR; DeepLab."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Settings of embedding learning as given: flags of the job. None: as published for objective and benchmark."""

    objective: Annotated[str, Shown(title="Objective")] = "cross-entropy"
    """What is minimised."""
    settings: Mapping[str, Any] = settings_of(OBJECTIVE_CATALOGUE)
    """The objective's own settings that were given, by name; the others have their published values."""
    teacher: Annotated[str | None, Shown(value="FILE")] = None
    """Trained networks to learn from (.safetensors, .pth, or a name in the package)."""
    teacher_backbone: str | None = None
    """Network of the teacher; default: that of --backbone."""
    init: Annotated[str | None, Shown(value="FILE")] = None
    """Checkpoint that the backbone starts from, whatever its classes; default: random weights. Heads start fresh."""
    epochs: Annotated[int | None, Shown(title="Training, by default with the published values")] = None
    """Passes over the base set."""
    batch: int | None = None
    """Images a step over all workers, before several views are made of each."""
    lr: float | None = None
    """Learning rate at the start."""
    head_lr: float | None = None
    """The same of the heads; default: that of the backbone."""
    schedule: str | None = None
    """How the rate falls: step, cosine (every epoch) or poly (every step)."""
    lr_decay: float | None = None
    """step: factor at each decay point."""
    decay_at: tuple[float, ...] | None = None
    """step: decay points as shares of the epochs."""
    poly_power: float | None = None
    """poly: power of the share of steps that are left; default: 0.9."""
    momentum: float | None = None
    """Of SGD; default: 0.9 (RFS; SKD and IER inherit it)."""
    weight_decay: float | None = None
    """L2 penalty."""
    sampler: str | None = None
    """uniform (each image once), square-root (classes by the root of their size) or class-aware (alike)."""
    precision: str = "auto"
    """float32 (TF32 on GPUs), bf16 (autocast), or auto: bf16 on a GPU, float32 on CPUs (ours)."""
    seed: int = 0
    """Root seed of initialisation, order, views and validation episodes."""
    validation_n_way: Annotated[int, Shown(title="Validation, which chooses the epoch")] = 5
    """Classes of the validation episodes (ours); long-tailed benchmarks have none."""
    validation_n_shot: int = 1
    """Support images a class of the validation episodes (ours)."""
    validation_episodes: int = 200
    """Validation episodes, 2 or more, the same every epoch (ours)."""

    def __post_init__(self) -> None:
        refuse_other_word(self, "objective", tuple(OBJECTIVES))
        check_loop(self)

    @property
    def definition(self) -> ObjectiveDefinition:
        """What the registry says of the objective."""
        return OBJECTIVES[self.objective]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of embedding learning as they were decided (`resolve.py`); what does not apply is None.

    Fields are those of `PretrainConfig`, with their meaning and units. `momentum` and `sampler` are None where the
    objective has neither.
    """

    objective: str
    teacher: str | None = None
    teacher_backbone: str | None = None
    init: str | None = None
    epochs: int
    batch: int
    lr: float
    head_lr: float | None = None
    schedule: str
    lr_decay: float | None = None
    decay_at: tuple[float, ...] | None = None
    poly_power: float | None = None
    momentum: float | None = None
    weight_decay: float
    sampler: str | None = None
    precision: str = "auto"
    settings: Any = field(default_factory=NoSettings)
    """The objective's own, an instance of `ObjectiveDefinition.settings`."""
    validation_n_way: int = 5
    validation_n_shot: int = 1
    validation_episodes: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        check_loop(self)

    @property
    def definition(self) -> ObjectiveDefinition:
        """What the registry says of the objective."""
        return OBJECTIVES[self.objective]

    def as_dict(self) -> dict[str, Any]:
        """Return all settings by name, the objective's own among them."""
        values: dict[str, Any] = {}
        for setting in fields(self):
            value = getattr(self, setting.name)
            values |= asdict(value) if setting.name == "settings" else {setting.name: value}
        return values


def check_loop(config: PretrainConfig | TrainingConfig) -> None:
    """Refuse settings of the loop that are impossible.

    Raises:
        InputError: names the flag, the value and what was expected.
    """
    refuse_other_word(config, "precision", PRECISIONS)
    refuse_other_word(config, "sampler", SAMPLERS)
    refuse_other_word(config, "schedule", tuple(SCHEDULE_SETTINGS))
    refuse_below(config, 1, "epochs", "batch", "validation_n_shot")
    refuse_below(config, 2, "validation_n_way", "validation_episodes")
    refuse_unless_positive(config, "lr", "head_lr", "lr_decay", "poly_power")
    refuse_unless_share(config, "momentum")
    refuse_negative(config, "weight_decay")
    if config.decay_at is not None and not all(0 < share <= 1 for share in config.decay_at):
        raise InputError(f"--decay-at is {config.decay_at}; expected shares of the epochs, above 0 and up to 1")
