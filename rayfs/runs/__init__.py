"""Results on disk: rows, parts, run directories, locks, storage."""
