"""Methods: one method, one file."""
