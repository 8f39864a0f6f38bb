"""Lines of a corpus as examples of tasks."""
