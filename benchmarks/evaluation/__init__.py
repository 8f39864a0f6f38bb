"""Sweeps of evaluations: their speed, kills in them, their page."""
