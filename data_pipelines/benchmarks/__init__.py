"""Public benchmarks by name, read from the folders that their authors give."""
