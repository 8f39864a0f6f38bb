"""Preferences against a policy that claims that it did not hear."""
