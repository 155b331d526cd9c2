"""Frozen classifiers on an embedding."""
