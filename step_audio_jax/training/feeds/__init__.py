"""Batches, each a pure function of (seed, step)."""
