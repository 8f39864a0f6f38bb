"""Documents → packed rows of one length, verified."""
