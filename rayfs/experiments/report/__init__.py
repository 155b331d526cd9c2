"""Experiments: reports of runs."""
