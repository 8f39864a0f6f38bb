"""Measurements of the speech tokenizers."""
