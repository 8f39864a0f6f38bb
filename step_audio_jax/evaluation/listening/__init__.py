"""How recordings sound to people: a blind page, and what its raters say."""
