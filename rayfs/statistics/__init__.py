"""Intervals, pairing, comparison, summaries. No torch."""
