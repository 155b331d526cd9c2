"""Methods by name."""

from rayfs.methods.frozen import FrozenLogisticRegression
from rayfs.methods.label_halluc import LabelHallucination
from rayfs.methods.method import Method
from rayfs.methods.recipes import FrozenConfig, LabelHallucConfig

MethodConfig = FrozenConfig | LabelHallucConfig


def create_method(config: MethodConfig) -> Method:
    """Return the method that `config` belongs to."""
    match config:
        case FrozenConfig():
            return FrozenLogisticRegression(config)
        case LabelHallucConfig():
            return LabelHallucination(config)
