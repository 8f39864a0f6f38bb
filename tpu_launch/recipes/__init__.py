"""Chains of commands: the quick start, `adapt`."""
