"""The naive recipe: what the engine is measured and tested against."""
