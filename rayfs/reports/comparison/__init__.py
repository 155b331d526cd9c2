"""Tables and figures of a comparison of two runs."""
