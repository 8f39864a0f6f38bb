"""The dual-codebook speech tokenizer, offline and streaming."""
