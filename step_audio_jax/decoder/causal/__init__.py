"""The streaming flow: Speech tokens → mel while they come."""
