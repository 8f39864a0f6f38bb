"""Recordings → speech codes, in shards; alignment of words."""
