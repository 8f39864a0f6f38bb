"""Parameters of one run as another's start."""
