"""Measurements of spoken dialogue."""
