"""Waveforms in and out, and the features that the networks read."""
