"""Results of long-tailed recognition: rows of classes, tables, figures and the page."""
