"""What a worker process does: an episode, a block of episodes, a trial."""
