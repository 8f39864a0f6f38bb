"""Objectives, labels and feeds that train the speech tokenizers."""
