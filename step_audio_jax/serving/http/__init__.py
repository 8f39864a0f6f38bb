"""The HTTP surface, as OpenAI's clients know it."""
