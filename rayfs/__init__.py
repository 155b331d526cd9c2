"""A distributed episode runner for few-shot learning, built on Ray."""

__version__ = "0.1.0"
