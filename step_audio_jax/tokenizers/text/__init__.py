"""Text tokenizers and the pieces they know."""
