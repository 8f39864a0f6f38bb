"""Corpora that the machine makes: speech, images, text."""
