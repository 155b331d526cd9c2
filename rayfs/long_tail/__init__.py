"""Long-tailed recognition by compositional knowledge transfer: classifiers made of a trained head, without training."""
