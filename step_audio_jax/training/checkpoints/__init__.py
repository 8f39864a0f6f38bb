"""Checkpoints: saved, summed, read slice by slice."""
