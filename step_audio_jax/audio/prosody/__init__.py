"""What makes levels of speed, pitch, volume and pauses, and writes it down."""
