"""A server that people and programs talk to."""
