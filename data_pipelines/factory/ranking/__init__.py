"""Preferences of what policies answered, by scores, judges and people."""
