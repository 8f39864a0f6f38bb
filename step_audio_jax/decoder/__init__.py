"""Speech codes → mel → waveform: offline, streaming, and how it is trained."""
