"""Comparison of two runs or methods, episode by episode."""
