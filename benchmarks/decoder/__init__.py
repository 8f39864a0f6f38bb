"""Measurements of flow, vocoder and streams."""
