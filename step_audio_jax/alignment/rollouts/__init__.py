"""Answers that a policy gives, and the numbers that are taken of them."""
