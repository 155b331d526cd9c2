"""Classifiers of frozen features, which the embedding job runs on many episodes at once."""
