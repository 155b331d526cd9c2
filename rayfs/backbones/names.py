"""Names of the backbones, as `--backbone` takes them. No torch in this module: a help text needs only the names."""

import re
from dataclasses import dataclass

EXACT_NAMES = (
    "conv4",
    "conv4-32",
    "conv4-flat",
    "conv4-32-flat",
    "resnet12",
    "seresnet12",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "resnet18",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50",
)
"""`conv4` has 64 filters and `conv4-32` has 32; `-flat` pools four times and flattens the last map.

`resnet20` to `resnet110` are those for 32 pixels, with 64 features; the others come from torchvision."""


@dataclass(frozen=True, kw_only=True)
class NamePattern:
    """A family of names."""

    spelling: str
    """As a message shows it; the parts in capitals are the user's."""
    example: str
    """One name of the family."""
    expression: re.Pattern[str]
    """Matches the whole name; its groups are the arguments."""


WIDE_RESNET = NamePattern(
    spelling="wrn-DEPTH-WIDTH",
    example="wrn-28-10",
    expression=re.compile(r"wrn-([1-9][0-9]*)-([1-9][0-9]*)"),
)
MOBILENET = NamePattern(
    spelling="mobilenet-WIDTH",
    example="mobilenet-0.5",
    expression=re.compile(r"mobilenet-([0-9]+(?:\.[0-9]+)?)"),
)
TIMM = NamePattern(
    spelling="timm:NAME",
    example="timm:vit_tiny_patch16_224",
    expression=re.compile(r"timm:(.+)"),
)
PATTERNS = (WIDE_RESNET, MOBILENET, TIMM)


def backbone_names() -> str:
    """Return one line that lists every name and every pattern with an example, for a help text or a message."""
    patterns = (f"{pattern.spelling} (for example {pattern.example})" for pattern in PATTERNS)
    return ", ".join([*EXACT_NAMES, *patterns])
