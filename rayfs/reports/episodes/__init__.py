"""The report of a run of episodes."""
