"""The naive recipe that the engine is measured and tested against."""
