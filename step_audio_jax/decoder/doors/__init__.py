"""The commands `speak` and `embed`."""
