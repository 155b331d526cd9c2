"""Experiments: long-tailed recognition."""
