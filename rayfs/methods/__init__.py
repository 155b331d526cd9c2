"""Few-shot methods, each in one place: settings, recipe, needs, solver."""
