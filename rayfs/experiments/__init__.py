"""One folder a job family: from flags to results. Imports no Ray."""
