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
    """Validation episodes, 2 or more, the same every epoch; frozen features and logistic regression."""
    seed: int = 0
    """Root seed of initialisation, order, views and validation episodes."""

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(f"--objective is '{self.objective}'; expected one of {', '.join(OBJECTIVES)}")
        least = {"epochs": 1, "batch": 1, "validation_n_way": 2, "validation_n_shot": 1, "validation_episodes": 2}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected at least {minimum}")
        for name in ("lr", "lr_decay"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected a positive number")
        if not 0 <= self.momentum < 1:
            raise InputError(f"--momentum is {self.momentum}; expected 0 or more, and less than 1")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"--weight-decay is {self.weight_decay}; expected zero or a positive number")
        if not all(0 < share <= 1 for share in self.decay_at):
            raise InputError(f"--decay-at is {self.decay_at}; expected shares of the epochs, above 0 and up to 1")
