"""Waveform → features: log-mel, filter banks, spectra, pitch."""
