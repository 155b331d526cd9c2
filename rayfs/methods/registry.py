"""Methods by name."""

from rayfs.methods.assoalign import AssociativeAlignment
from rayfs.methods.configs import (
    AssoAlignConfig,
    FeatureDistillConfig,
    FrozenConfig,
    HardLabelConfig,
    LabelHallucConfig,
    MethodConfig,
    PrototypeConfig,
    SupportOnlyConfig,
)
from rayfs.methods.feature_distill import FeatureDistillation
from rayfs.methods.frozen import FrozenLogisticRegression
from rayfs.methods.hard_label import HardLabel
from rayfs.methods.label_halluc import LabelHallucination
from rayfs.methods.method import Method
from rayfs.methods.nearest_prototype import NearestPrototype
from rayfs.methods.support_only import SupportOnly


def create_method(config: MethodConfig) -> Method:
    """Return the method that `config` belongs to."""
    match config:
        case FrozenConfig():
            return FrozenLogisticRegression(config)
        case PrototypeConfig():
            return NearestPrototype(config)
        case SupportOnlyConfig():
            return SupportOnly(config)
        case LabelHallucConfig():
            return LabelHallucination(config)
        case HardLabelConfig():
            return HardLabel(config)
        case FeatureDistillConfig():
            return FeatureDistillation(config)
        case AssoAlignConfig():
            return AssociativeAlignment(config)
