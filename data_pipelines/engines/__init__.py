"""What spreads work over machines, and what its workers have in common."""
