"""Names of backbones: the one list that help texts and messages show."""

import pytest

from rayfs.backbones import BACKBONES, backbone_names, resolve_backbone
from rayfs.backbones.names import EXACT_NAMES, PATTERNS


def test_exact_names_are_those_of_the_registry():
    assert tuple(BACKBONES) == EXACT_NAMES


def test_one_line_lists_every_name_and_every_pattern_with_an_example():
    assert backbone_names() == (
        "conv4, conv4-32, conv4-flat, conv4-32-flat, resnet12, seresnet12, resnet20, resnet32, resnet44, resnet56, "
        "resnet110, resnet18, resnet50, resnet101, resnet152, resnext50, wrn-DEPTH-WIDTH (for example wrn-28-10), "
        "mobilenet-WIDTH (for example mobilenet-0.5), "
        "timm:NAME (for example timm:vit_tiny_patch16_224)"
    )


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.example)
def test_every_example_is_a_name_of_its_own_pattern_alone(pattern):
    assert [p for p in PATTERNS if p.expression.fullmatch(pattern.example)] == [pattern]
    assert pattern.example not in EXACT_NAMES
    resolve_backbone(pattern.example)
