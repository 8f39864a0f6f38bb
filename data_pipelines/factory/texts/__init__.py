"""Texts that are to be said: of corpora, or written by a model."""
