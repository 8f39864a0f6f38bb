"""Preferences as others write them: pairs, rankings and scores of answers."""
