"""Ear, mind and mouth of runs, on one generation engine."""
