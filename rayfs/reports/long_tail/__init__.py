"""The report of an evaluation of long-tailed recognition."""
