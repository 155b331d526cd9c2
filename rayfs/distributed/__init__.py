"""Distributed: the only package that imports ray."""
