"""How good a reward model is, and what else than answers moves its scores."""
