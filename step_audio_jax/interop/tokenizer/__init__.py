"""Step-Audio-Tokenizer as it was released, in."""
