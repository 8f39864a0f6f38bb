"""Leaks: training data that says what a test asks, or in its voices."""
