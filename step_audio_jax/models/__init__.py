"""Flax networks and nothing else."""
