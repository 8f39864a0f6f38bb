"""Mel → waveform: HiFT whole and in pieces, its training, Griffin-Lim."""
