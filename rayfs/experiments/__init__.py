"""One folder a job: from its flags to its results."""
