"""Minds elsewhere, behind the protocol of chat completions."""
