"""Benchmarks: each says what it reads, how it asks, decodes and scores."""
