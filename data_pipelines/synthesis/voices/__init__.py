"""Voices that speak text: espeak-ng, and networks that a user has."""
