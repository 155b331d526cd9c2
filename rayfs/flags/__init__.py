"""Command lines: shared groups of flags, how a configuration becomes flags and help, and the exit code of a job."""
