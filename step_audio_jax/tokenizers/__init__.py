"""Text and speech tokenizers: what they are, how they are trained."""
