"""The vocoder HiFT and its discriminators."""
