"""Benchmarks: image tables, splits, batched augmentation, episode drawing."""
