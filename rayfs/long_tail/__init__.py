"""The mathematics of compositional knowledge transfer for long-tailed recognition."""
