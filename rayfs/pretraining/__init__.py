"""Pretraining: embedding learning; one objective, one file."""
