"""Experiments: comparisons of runs."""
