"""Experiments: tables of papers."""
