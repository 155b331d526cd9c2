"""Experiments: the evaluation of embeddings."""
