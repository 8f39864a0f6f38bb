"""The offline flow-matching network of CosyVoice-300M-25Hz."""
