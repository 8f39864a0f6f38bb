"""Measures evaluation."""
