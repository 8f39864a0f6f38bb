"""Tests of the servers and of the faults in front of them."""
