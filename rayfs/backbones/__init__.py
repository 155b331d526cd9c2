"""Networks, heads and checkpoints; the weights that come with the package.

Reading order: `names`, `registry`, `resnet12`, `squeeze_excitation`, `regularisation`, `conv4`, `conv4_flat`,
`wide_resnet`, `resnet32`, `torchvision_backbones`, `timm_backbones`, `global_draws`, `heads`, `checkpoints`, `state`,
`checkpoint_files`.
"""

from rayfs.backbones.checkpoints import LoadReport, load_checkpoint, read_heads, save_checkpoint
from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.conv4_flat import Conv4Flat
from rayfs.backbones.heads import LinearHead, l2_normalize
from rayfs.backbones.names import backbone_names
from rayfs.backbones.registry import BACKBONES, create_backbone, n_features, n_parameters, resolve_backbone
from rayfs.backbones.regularisation import reset_ramp, set_generator
from rayfs.backbones.resnet12 import ResNet12
from rayfs.backbones.state import state_hash
from rayfs.backbones.wide_resnet import WideResNet

__all__ = [
    "BACKBONES",
    "Conv4",
    "Conv4Flat",
    "LinearHead",
    "LoadReport",
    "ResNet12",
    "WideResNet",
    "backbone_names",
    "create_backbone",
    "l2_normalize",
    "load_checkpoint",
    "n_features",
    "n_parameters",
    "read_heads",
    "reset_ramp",
    "resolve_backbone",
    "save_checkpoint",
    "set_generator",
    "state_hash",
]
