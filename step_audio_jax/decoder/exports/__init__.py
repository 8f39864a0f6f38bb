"""Training runs → the folder of a decoder."""
