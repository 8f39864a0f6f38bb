"""Measurements of whole chains."""
