"""The report of a run: one self-contained HTML file, and the result table for other programs."""
