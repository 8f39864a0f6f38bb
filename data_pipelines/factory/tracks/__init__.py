"""Tracks of songs: whether their lyrics are where their times say."""
