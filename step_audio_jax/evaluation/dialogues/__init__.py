"""Offline scorers of dialogues that some system had and that were recorded."""
