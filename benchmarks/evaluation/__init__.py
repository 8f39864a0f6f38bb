"""Measurements of evaluation."""
