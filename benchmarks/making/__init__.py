"""The data engine's `make`: killed, searched for leaks, and timed."""
