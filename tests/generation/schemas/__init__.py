"""Decoding that is held to a JSON Schema."""
