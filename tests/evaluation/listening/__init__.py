"""Blind listening pages, and ratings that come back."""
