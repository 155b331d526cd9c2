"""Evaluation: rows on disk, resume, intervals, paired comparison, tables."""
