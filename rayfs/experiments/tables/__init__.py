"""Tables of papers, ours beside the published cells."""
