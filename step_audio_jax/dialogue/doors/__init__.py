"""Doors of a terminal: `chat` and `transcribe`."""
