"""Other stores than this machine's, and what is read of them by ranges."""
