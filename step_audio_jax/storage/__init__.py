"""Files in and out, their digests, and what binds folders together."""
