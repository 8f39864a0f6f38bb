"""What alignment is held to."""
