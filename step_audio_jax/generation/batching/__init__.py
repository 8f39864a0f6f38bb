"""Continuous batching: rows of one batch that come and go between turns."""
