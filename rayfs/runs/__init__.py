"""Results on disk: rows, parts, the run directory, storage, lock and lease. Nothing else writes results."""
