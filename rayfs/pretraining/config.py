"""How an embedding is trained. No torch here, so that a command line opens fast."""

from dataclasses import dataclass

from rayfs.errors import InputError

OBJECTIVES = ("cross-entropy",)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Settings of embedding learning; defaults are those of RFS on CIFAR-FS and FC100."""

    objective: str = "cross-entropy"
    """What is minimised: cross-entropy (RFS "simple", ECCV 2020)."""
    epochs: int = 90
    """Passes over the base set (RFS, CIFAR-FS and FC100)."""
    batch: int = 64
    """Images a step, before rotations multiply them by 4 (RFS)."""
    lr: float = 0.05
    """Learning rate at the start (RFS)."""
    lr_decay: float = 0.1
    """Factor at each decay point (RFS)."""
    decay_at: tuple[float, ...] = (0.5, 2 / 3, 5 / 6)
    """Decay points as shares of the epochs (RFS: 45, 60 and 75 of 90)."""
    momentum: float = 0.9
    """Of SGD (RFS)."""
    weight_decay: float = 5e-4
    """L2 penalty (RFS)."""
    rotations: bool = False
    """Add the 90-degree turns of each image as extra classes (the usual enlargement of Omniglot; ours)."""
    validation_n_way: int = 5
    """Classes of the validation episodes that choose the epoch."""
    validation_n_shot: int = 1
    """Support images a class of the validation episodes."""
    validation_episodes: int = 200
    """Validation episodes, the same every epoch; frozen features and logistic regression."""
    seed: int = 0
    """Root seed of initialisation, order, views and validation episodes."""

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(f"--objective is '{self.objective}'; expected one of {', '.join(OBJECTIVES)}")
        for name in ("epochs", "batch", "validation_episodes"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected at least 1")
        if self.lr <= 0:
            raise InputError(f"--lr is {self.lr}; expected a positive number")
