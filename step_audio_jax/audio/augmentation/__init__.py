"""Changes of waveforms: noise, rooms, codecs, speed; each can be repeated."""
