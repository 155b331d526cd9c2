"""Intervals, pairing, comparison, summaries. No torch, but for the bootstrap of a long tail."""
