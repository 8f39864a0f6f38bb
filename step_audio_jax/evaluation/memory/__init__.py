"""What was scored before: by content, and where it is kept."""
