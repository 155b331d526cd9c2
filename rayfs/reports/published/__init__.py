"""Published figures, a module a paper."""
