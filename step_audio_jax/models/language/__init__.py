"""The speech-text language model and its image encoder."""
