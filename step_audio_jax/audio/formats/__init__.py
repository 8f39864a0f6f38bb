"""Containers and codecs by their bytes: how long a recording is."""
