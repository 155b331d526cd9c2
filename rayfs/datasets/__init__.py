"""Benchmarks: image tables, splits, augmentation, the drawing of episodes."""
