"""Measurements of training steps, decoding and checkpoints."""
