"""What is minimised, each in one place.

Objectives of embedding learning: a folder each, or a file.

A folder's `__init__.py` says all that the rest of rayfs knows of an objective, without torch: its settings, the
published values, what it demands of a teacher. `loss.py` beside it computes.

To add one, write such a folder and add a line to `registry.OBJECTIVES`. On single images it is the methods of
`rayfs.training.objective.Objective`, and `create` ends with `image_parts`. One that is trained on something else gives
a source and a learner of its own (`rayfs.training.parts`); tests/training/prototypes_objective.py is an example.
"""
