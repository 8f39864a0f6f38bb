"""A corpus that asks aloud what an open language model knows."""
