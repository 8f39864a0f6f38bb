"""The report of a chain of runs, as HTML and JSON."""
