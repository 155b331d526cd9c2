"""Experiments: searches over settings."""
