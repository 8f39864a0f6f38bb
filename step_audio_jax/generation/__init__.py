"""Decoding: cached generation, samplers and grammars."""
