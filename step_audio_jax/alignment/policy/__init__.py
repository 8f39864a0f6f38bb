"""Policies that learn from the rewards of their own answers."""
