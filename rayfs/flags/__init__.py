"""Command lines: shared groups of flags, help, exit codes."""
