"""Backbones: Conv-4, ResNet-12, heads, checkpoints."""
