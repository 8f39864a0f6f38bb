"""Decoding that is held to a JSON Schema; numpy alone, on the host."""
