"""Objectives of embedding learning: a folder each, or a file. `registry.OBJECTIVES` lists them.

A folder's `__init__.py` says all that the rest of rayfs knows of an objective, without torch: its settings, the
published values, the teacher it needs. `loss.py` beside it computes.
"""
