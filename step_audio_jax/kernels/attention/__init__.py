"""Attention by layout and by machine: Mosaic, Triton, XLA, a reference."""
