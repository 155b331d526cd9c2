"""Few-shot methods, each in one place: settings, recipe, needs, solver.

A method is a module, or a package, with a `METHOD`: its name, settings, recipe, search space, needs and solver
(`definition.py`). `registry.py` lists them; a new one is its file and a line there. What finetuning methods share is in
`finetuning/`, what the baselines of frozen features share in `frozen.py`, classifiers of many episodes at once in
`classifiers/`.
"""
