"""Scoring, perplexity, speech round trips, checkpoint sweeps and reports."""
