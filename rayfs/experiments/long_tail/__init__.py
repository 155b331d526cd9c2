"""Long-tailed recognition."""
