"""Stores of objects through their own libraries, and what they may fail at."""
