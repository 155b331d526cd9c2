"""Training of embeddings: the loop, its learners, sources and schedules; teachers.

In reading order: `config.py` and `resolve.py` (what was given, what is decided), `objectives/` (one a folder),
`parts.py` (what an objective is made of), `sources.py`, `learner.py` and `forward_learner.py`, `schedules.py`,
`optimisers.py`, `loop.py` (one epoch), `planning.py`, `plan.py` and `run.py` (a whole training), `validation.py`,
`keeper.py`, `teacher.py`.
"""
