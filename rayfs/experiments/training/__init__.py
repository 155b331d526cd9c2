"""Experiments: the training of embeddings."""
