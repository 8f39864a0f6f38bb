"""Sweeps over the checkpoints of a run: which steps, and what is written."""
