"""Experiments: the cache."""
