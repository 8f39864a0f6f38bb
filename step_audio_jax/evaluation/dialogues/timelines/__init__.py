"""What happened when in a dialogue: sound, words, and spans of time."""
