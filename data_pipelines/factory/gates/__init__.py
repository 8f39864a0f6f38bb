"""Gates: what a recording must be to become training data."""
