"""CosyVoice, HiFT and CAM++ in and out."""
