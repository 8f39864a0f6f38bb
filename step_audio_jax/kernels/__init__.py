"""Attention: causal within segments, with the sqrt-ALiBi bias or RoPE."""
