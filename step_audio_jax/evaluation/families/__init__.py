"""Families of figures: each says what it can score, and scores it."""
