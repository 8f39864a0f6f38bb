"""Conversations: one format for what is trained on and what is served."""
