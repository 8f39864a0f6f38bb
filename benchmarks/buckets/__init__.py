"""Servers of the buckets' own protocols on this machine, and their faults."""
