"""Experiments: the main job."""
