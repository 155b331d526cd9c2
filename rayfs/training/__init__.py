"""Training of embeddings: the loop, objectives, teachers."""
