"""The encoders of the two speech tokenizers: Paraformer and S3."""
