"""Spoken dialogue: who speaks when, what was said, what is done meanwhile."""
