"""What is measured of how somebody speaks: pace, pauses, pitch, level."""
