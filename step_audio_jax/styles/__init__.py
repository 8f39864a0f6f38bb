"""How speech is spoken: tags, words for them, and what makes their levels."""
