"""What readers yield → a corpus with a manifest."""
