"""Other people's weights in, ours out."""
