"""Backbones: Conv-4, ResNet-12, heads, checkpoints.

Reading order: `registry`, `resnet12`, `regularisation`, `conv4`, `heads`, `checkpoints`, `state`, `checkpoint_files`.
"""

from rayfs.backbones.checkpoints import LoadReport, load_checkpoint, save_checkpoint
from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.heads import LinearHead, l2_normalize
from rayfs.backbones.registry import BACKBONES, create_backbone, n_features, n_parameters
from rayfs.backbones.regularisation import reset_ramp, set_generator
from rayfs.backbones.resnet12 import ResNet12
from rayfs.backbones.state import state_hash

__all__ = [
    "BACKBONES",
    "Conv4",
    "LinearHead",
    "LoadReport",
    "ResNet12",
    "create_backbone",
    "l2_normalize",
    "load_checkpoint",
    "n_features",
    "n_parameters",
    "reset_ramp",
    "save_checkpoint",
    "set_generator",
    "state_hash",
]
