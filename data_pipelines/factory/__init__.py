"""The factory: training data is made, checked, and says how it was made."""
